"""How many rows of each source are trained on: the corpus's mixture, with conversations in place of bytes."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.data.demonstrations_report import RowMixtureFacts, RowShare
from lifecycle.data.mixture import Ratio, Temperature, asked_shares, over_cap, planned_bytes, repeats_for, shortfalls
from lifecycle.data.order import hash64, mix64
from lifecycle.data.selection import Selection

I64 = NDArray[np.int64]


class RowMixture(BaseModel):
    """The sources' shares of the training rows, and how many rows that is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares: Annotated[Ratio | Temperature, Field(discriminator="kind")] = Field(
        Ratio(), description="By the sources' weights, or by a power of their rows."
    )
    rows: int | None = Field(
        None,
        gt=0,
        description="So many, repetitions counted; None: as many as the shares allow before a source runs out.",
    )


def drop_over_max_rows(selection: Selection, own: Sequence[tuple[ConversationSource, I64]]) -> None:
    """Of a source with a cap the conversations stay that come first in its hashed order."""
    places, beyond = selection.catalogue.places, []
    for source, rows in own:
        if source.max_rows is not None:
            order = mix64(places[rows] ^ np.uint64(hash64("cap")))
            beyond.append(rows[over_cap(order, np.ones(len(rows), np.int64), source.max_rows)])
    if beyond:
        selection.drop("caps", "over_cap", np.concatenate(beyond), lambda _: "beyond max_rows of its source")


def mix_rows(
    selection: Selection, own: Sequence[tuple[ConversationSource, I64]], mixture: RowMixture | None
) -> tuple[NDArray[np.uint16], RowMixtureFacts]:
    """How often each conversation comes, and what shares that makes. `own` has each source's training rows."""
    catalogue = selection.catalogue
    repeats = np.zeros(len(catalogue), np.uint16)
    available = [len(rows) for _, rows in own]
    asked: dict[str, float] = {}
    planned: list[float] = []
    for _, rows in own if mixture is None else ():
        repeats[rows] = 1
    if mixture is not None:
        shares = asked_shares(mixture.shares, [source.weight for source, _ in own], available)
        asked = {source.name: share for (source, _), share in zip(own, shares, strict=True)}
        most = [count * source.max_epochs for (source, _), count in zip(own, available, strict=True)]
        planned = planned_bytes(shares, most, mixture.rows)
        for (_, rows), target in zip(own, planned, strict=True):
            order = mix64(catalogue.places[rows] ^ np.uint64(hash64("mixture")))
            repeats[rows] = repeats_for(order, np.ones(len(rows), np.int64), target)
        everything = np.concatenate([rows for _, rows in own])
        unused = everything[repeats[everything] == 0]
        selection.drop("mixture", "beyond_mixture", unused, lambda _: "more than the share of its source")
    taken = [int(repeats[rows].sum(dtype=np.int64)) for _, rows in own]
    achieved = {source.name: count / sum(taken) for (source, _), count in zip(own, taken, strict=True)}
    budget = mixture.rows if mixture else None
    return repeats, RowMixtureFacts(
        asked_rows=(budget or round(math.fsum(planned))) if mixture else None,
        sources={
            source.name: RowShare(
                available_rows=there,
                train_rows=count,
                epochs=count / there,
                asked_share=asked.get(source.name),
                share=achieved[source.name],
            )
            for (source, _), there, count in zip(own, available, taken, strict=True)
        },
        shortfalls=shortfalls(asked, achieved, budget, sum(taken), unit="rows"),
    )
