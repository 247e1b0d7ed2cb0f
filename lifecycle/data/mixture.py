"""How much of each source goes in. Documents are taken in the hashed order of their names: one more moves no other.

`places` are the documents' 64-bit places in that order, `sizes` their bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.corpus_report import MixtureFacts, SourceShare
from lifecycle.data.documents import Source
from lifecycle.data.order import U64, hash64, mix64
from lifecycle.data.selection import Selection

I64 = NDArray[np.int64]

# A share this much off what was asked is a shortfall, and stated.
TOLERANCE = 0.01


class Ratio(BaseModel):
    """Shares by the weights of the sources; each must have one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ratio"] = "ratio"


class Temperature(BaseModel):
    """Shares proportional to n^(1/T), n the bytes of a source (Conneau et al. 2020, section 3.1, with alpha = 1/T).

    1 takes of each as there is, a large T of each the same. The papers on many languages use 2 to 5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(2.0, ge=1, description="T.")


class Bytes(BaseModel):
    """So much training text, repetitions counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["bytes"] = "bytes"
    bytes: int = Field(gt=0)


class Tokens(BaseModel):
    """The same in tokens. The tokenizer comes later, so how many bytes a token has is an estimate, and yours."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["tokens"] = "tokens"
    tokens: int = Field(gt=0)
    bytes_per_token: float = Field(gt=0, description="About 4.2 for English and a vocabulary of 50,000.")


class Mixture(BaseModel):
    """The sources' shares of the training text, and how much that is. How often one may come is its own setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares: Annotated[Ratio | Temperature, Field(discriminator="kind")] = Ratio()
    budget: Annotated[Bytes | Tokens, Field(discriminator="kind")] | None = Field(
        None, description="None: as much as these shares allow before the first source runs out."
    )

    @property
    def budget_bytes(self) -> int | None:
        match self.budget:
            case Bytes(bytes=size):
                return size
            case Tokens(tokens=tokens, bytes_per_token=each):
                return round(tokens * each)
        return None


def asked_shares(shares: Ratio | Temperature, weights: Sequence[float | None], available: Sequence[int]) -> list[float]:
    """The share of each source; they add up to 1."""
    match shares:
        case Temperature(temperature=temperature):
            parts = [size ** (1 / temperature) for size in available]
        case Ratio():
            parts = [weight or 0.0 for weight in weights]
    return [part / math.fsum(parts) for part in parts]


def planned_bytes(shares: Sequence[float], most: Sequence[float], budget: float | None) -> list[float]:
    """Bytes to take of each source: its share, but never more than the `most` it has.

    What an exhausted source cannot give, the others give by their shares (UniMax, Chung et al. 2023, algorithm 1).
    Without a budget nothing is exhausted but the source that ends first: the shares hold exactly.
    """
    if budget is None:
        total = min(limit / share for limit, share in zip(most, shares, strict=True))
        return [share * total for share in shares]
    planned = [0.0] * len(shares)
    left, giving = float(budget), list(range(len(shares)))
    while giving:
        per_share = left / math.fsum(shares[i] for i in giving)
        exhausted = [i for i in giving if shares[i] * per_share >= most[i]]
        for i in exhausted or giving:
            planned[i] = most[i] if exhausted else shares[i] * per_share
        left -= math.fsum(planned[i] for i in exhausted)
        giving = [i for i in giving if i not in exhausted] if exhausted else []
    return planned


def repeats_for(places: U64, sizes: I64, target: float) -> I64:
    """How often each document comes, so that they have `target` bytes in all, to half a document.

    All come equally often, and those first in the hashed order once more.
    """
    total = int(sizes.sum())
    whole, rest = divmod(target, total)
    order = np.argsort(places, kind="stable")
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[order])])
    after = int(np.searchsorted(ends, rest))
    nearest = after if after < len(ends) and (after == 0 or ends[after] - rest < rest - ends[after - 1]) else after - 1
    repeats = np.full(len(places), int(whole))
    repeats[order[:nearest]] += 1
    return repeats


def shortfalls(
    asked: Mapping[str, float], achieved: Mapping[str, float], budget: int | None, total: int, unit: str = "bytes"
) -> list[str]:
    """A sentence for each share that is off by more than TOLERANCE of itself, and one for a budget not reached."""
    found = [
        f"{name}: asked {share:.4g} of the training {unit}, achieved {achieved[name]:.4g}"
        for name, share in asked.items()
        if abs(achieved[name] - share) > TOLERANCE * share
    ]
    if budget is not None and total < (1 - TOLERANCE) * budget:
        found.append(f"budget: asked {budget} {unit}, achieved {total}: every source has come max_epochs times")
    return found


def mix(
    selection: Selection, sources: Sequence[Source], mixture: Mixture | None, held_out: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], MixtureFacts]:
    """How often each document comes in the training text, and what shares that makes. What never comes is dropped."""
    catalogue = selection.catalogue
    own = [catalogue.of_source(number) for number in range(len(sources))]
    own = [documents[~held_out[documents]] for documents in own]
    available = [selection.tally(documents).bytes for documents in own]
    repeats = np.zeros(len(catalogue), np.uint16)
    asked: dict[str, float] = {}
    planned: list[float] = []
    if mixture is None:
        repeats[np.concatenate(own)] = 1
    else:
        shares = asked_shares(mixture.shares, [source.weight for source in sources], available)
        asked = {source.name: share for source, share in zip(sources, shares, strict=True)}
        most = [size * source.max_epochs for size, source in zip(available, sources, strict=True)]
        planned = planned_bytes(shares, most, mixture.budget_bytes)
        for documents, target in zip(own, planned, strict=True):
            places = mix64(catalogue.places[documents] ^ np.uint64(hash64("mixture")))
            repeats[documents] = repeats_for(places, catalogue.sizes[documents].astype(np.int64), target)
        unused = np.flatnonzero(catalogue.is_in & ~held_out & (repeats == 0))
        selection.drop("mixture", "beyond_mixture", unused, lambda _: "more than the share of its source")
    sizes = [int((catalogue.sizes[documents] * repeats[documents].astype(np.int64)).sum()) for documents in own]
    achieved = {source.name: size / sum(sizes) for source, size in zip(sources, sizes, strict=True)}
    budget = mixture.budget_bytes if mixture else None
    return repeats, MixtureFacts(
        asked_bytes=(budget or round(math.fsum(planned))) if mixture else None,
        train_bytes=sum(sizes),
        bytes_per_token=mixture.budget.bytes_per_token if mixture and isinstance(mixture.budget, Tokens) else None,
        sources={
            source.name: SourceShare(
                available_bytes=there,
                train_bytes=size,
                train_rows=int(repeats[documents].sum()),
                epochs=size / there,
                asked_share=asked.get(source.name),
                share=achieved[source.name],
            )
            for source, documents, there, size in zip(sources, own, available, sizes, strict=True)
        },
        shortfalls=shortfalls(asked, achieved, budget, sum(sizes)),
    )


def drop_over_caps(selection: Selection, sources: Sequence[Source]) -> None:
    """Of a source with a cap the documents stay that come first in its hashed order."""
    catalogue = selection.catalogue
    beyond = []
    for number, source in enumerate(sources):
        if source.max_bytes is not None:
            own = catalogue.of_source(number)
            places = mix64(catalogue.places[own] ^ np.uint64(hash64("cap")))
            beyond.append(own[over_cap(places, catalogue.sizes[own].astype(np.int64), source.max_bytes)])
    if beyond:
        selection.drop("caps", "over_cap", np.concatenate(beyond), lambda _: "beyond max_bytes of its source")


def over_cap(places: U64, sizes: I64, max_bytes: int) -> I64:
    """Which of a source's documents lie beyond its cap."""
    order = np.argsort(places, kind="stable")
    return np.sort(order[np.cumsum(sizes[order]) > max_bytes])
