"""One record per scored item, and the metrics they add up to. Every number of a report can be made again from these."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lifecycle.artifacts import Score
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.evidence import Evidence, Rate, Share

ITEMS = "items.jsonl"
BITS = "bits_per_byte"

Mode = Literal["greedy", "sampled"]


class Answer(BaseModel):
    """What the model said to one contract item in one mode. Grades are None exactly when `unmeasured` says why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["answer"] = "answer"
    suite: str
    id: str
    mode: Mode
    prompt_digest: str = Field(description="Of the prompt's ids: equal digests, equal questions.")
    answer: str
    correct: bool | None
    terse: bool | None
    exact: bool | None
    stopped: bool | None = Field(description="Whether the stop token came within max_new_tokens.")
    tokens: int = Field(description="Generated, the stop token counted.")
    bits: float | None = Field(description="-log2 of the answer's probability under the model, the stop token counted.")
    unmeasured: str | None = None


class Document(BaseModel):
    """How well the model predicts one validation document."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["document"] = "document"
    source: str
    id: str
    tokens: int
    bytes: int
    bits: float | None = Field(description="-log2 of the text's probability; None when `unmeasured` says why.")
    unmeasured: str | None = None


Item = Answer | Document
_ITEM: TypeAdapter[Item] = TypeAdapter(Annotated[Item, Field(discriminator="kind")])

# Metrics of a contract suite: which mode, which grade. DPO shows in sampled answers, deployment is mostly greedy.
CONTRACT_METRICS: dict[str, tuple[Mode, Literal["correct", "terse", "exact", "stopped"]]] = {
    "greedy_correct": ("greedy", "correct"),
    "greedy_stopped": ("greedy", "stopped"),
    "sampled_correct": ("sampled", "correct"),
    "sampled_terse": ("sampled", "terse"),
    "sampled_exact": ("sampled", "exact"),
}


def write_items(folder: Path, items: Iterable[Item]) -> int:
    """Write the records one a line and return how many; the same records give the same bytes."""
    written = 0
    with (folder / ITEMS).open("wb") as file:
        for item in items:
            file.write(item.model_dump_json().encode() + b"\n")
            written += 1
    return written


def read_items(folder: Path) -> Iterator[Item]:
    """The records of a report."""
    with (folder / ITEMS).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _ITEM.validate_json(line)
            except ValidationError as error:
                raise DamagedArtifact(
                    f"{folder / ITEMS}:{number}: expected an item record, found: {error}. Evaluate again."
                ) from error


def measured(items: Iterable[Item]) -> dict[str, Evidence]:
    """The evidence behind every metric. An item that occurs twice is refused: it would count twice."""
    answers: dict[str, dict[str, bool | None]] = {}
    documents: dict[str, dict[str, tuple[float, int] | None]] = {}
    for item in items:
        match item:
            case Answer():
                for name, (mode, aspect) in CONTRACT_METRICS.items():
                    if mode == item.mode:
                        _add(answers.setdefault(f"{item.suite}.{name}", {}), item.id, getattr(item, aspect))
            case Document():
                value = None if item.bits is None else (item.bits, item.bytes)
                _add(documents.setdefault(BITS, {}), f"{item.source}/{item.id}", value)
                _add(documents.setdefault(f"{BITS}.{item.source}", {}), item.id, value)
    shares: dict[str, Evidence] = {name: Share(values) for name, values in answers.items()}
    return shares | {name: Rate(values) for name, values in sorted(documents.items())}


def scores(evidence: Mapping[str, Evidence], *, confidence: float) -> dict[str, Score]:
    """Every metric with its two-sided interval."""
    return {name: _score(found, confidence) for name, found in evidence.items()}


def _score(found: Evidence, confidence: float) -> Score:
    interval = None if found.fault else found.interval((1 - confidence) / 2)
    return Score(
        mean=_rounded(found.value),
        low=_rounded(interval.low) if interval else None,
        high=_rounded(interval.high) if interval else None,
        items=found.items,
        unmeasured=found.unmeasured,
        higher_is_better=found.higher_is_better,
    )


def _add(values: dict[str, Any], name: str, value: Any) -> None:
    if name in values:
        raise DamagedArtifact(f"expected one record an item, found {name!r} twice. Evaluate again.")
    values[name] = value


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
