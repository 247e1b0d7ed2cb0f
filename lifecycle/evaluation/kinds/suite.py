"""The seam of every suite: what a row must be, what the model is asked, and what its replies are worth.

A kind is one file with one subclass of `Suite`, listed in `kinds/__init__.py`. No torch here: the worker does the
asking (`lifecycle.evaluation.engine`), so that collecting suites and reading reports stay light.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.jsonl import Row, read_rows
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.items import Item, Mode

TRUNCATED = "truncated"

Messages = Sequence[Mapping[str, str]]
Prompt = Messages | str
"""Turns, rendered with the chat template of the model; or plain text behind BOS, for models that do not chat."""


@dataclass(frozen=True)
class Generate:
    """Answer this prompt: once greedily if asked, and so many times by sampling."""

    prompt: Prompt
    greedy: bool = True
    samples: int = 1
    max_new_tokens: int | None = None
    """None: `evaluate.max_new_tokens`."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer besides the stop token; the answer is cut before the first of them."""


@dataclass(frozen=True)
class Likelihood:
    """How probable is this text as the continuation of this prompt? Prompts asked more than once are read once."""

    prompt: Prompt
    continuation: str
    ends: bool = False
    """Whether the stop token belongs to it: then `Reply.stopped` says whether it is the model's first choice there."""


@dataclass(frozen=True)
class Parity:
    """Does Hugging Face render this conversation, and the prompt before its last answer, as we do?"""

    messages: Messages


@dataclass(frozen=True)
class Reward:
    """What does this reward model give the conversation's last answer?"""

    judge: Path
    messages: Messages


Ask = Generate | Likelihood | Parity | Reward


@dataclass(frozen=True)
class Reply:
    """What came of one ask; a Generate gives one per mode and sample, in the order greedy, sample 0, sample 1, ..."""

    mode: Mode
    prompt_digest: str
    sample: int = 0
    text: str = ""
    log_probability: float | None = None
    """ln p of the text, the stop token counted if it came."""
    tokens: int = 0
    stopped: bool = False
    """Whether the stop token (or a stop text) came within max_new_tokens."""
    most_likely: bool = False
    """Likelihood: whether greedy decoding would have said exactly this. Parity: whether the ids are equal."""
    reward: float | None = None
    fault: str | None = None
    """Why the model gave nothing that can be graded: logits_not_finite, does_not_fit, ..."""

    @property
    def unmeasured(self) -> str | None:
        """Why this reply cannot be graded. One that was cut might have gone on to be right, or to be wrong."""
        if self.fault is not None or self.mode == "likelihood" or self.stopped:
            return self.fault
        return TRUNCATED


Family = Literal["share", "mean", "rate"]


@dataclass
class Measure:
    """The values behind one metric, by item; None is an item that could not be measured.

    share: right or wrong, 1 or 0; mean: a number within `bounds`; rate: bits, to be divided by the item's `weights`.
    """

    family: Family
    values: dict[str, float | None] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)
    """Items that share a passage; an item that is not here stands alone."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    higher_is_better: bool = True


class Suite(BaseModel):
    """A suite of held-out items: its settings, and the code of its kind.

    Every subclass narrows `kind` to a Literal, with a default. The settings are sealed with the rows, so a report is
    graded by what the suite said when it was collected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Its name in metrics and reports.")
    path: Path = Field(description="A .jsonl or .jsonl.gz file.")
    cluster_field: str = Field("cluster", description="The field of a row that names the passage it is about.")
    too_long: Literal["refuse", "unmeasured"] = Field(
        "refuse", description="An item that does not fit in max_seq_len stops the evaluation, or is UNMEASURED."
    )
    slice_field: str = Field("slice", description="The field of a row that names the part of the suite it is in.")

    def rows(self) -> list[Row]:
        """The raw rows, every one without a fault, or InputError: a score over unknown items means nothing."""
        return read_rows(self.path, self.fault_of, max_bad_row_share=0)[0]

    def sealed_into(self, folder: Path) -> dict[str, Any]:
        """The settings as they are sealed beside the rows; other files that scoring needs are copied into `folder`."""
        return self.model_dump(mode="json", exclude={"path"})

    def opened(self, folder: Path) -> "Suite":
        """The suite with the paths of what `sealed_into` copied."""
        return self

    @abstractmethod
    def fault_of(self, row: Row) -> str | None:
        """Why this row cannot be scored, or None."""

    @abstractmethod
    def stored(self, row: Row) -> Row:
        """What is sealed of a row: id, messages (the prompt, ending with a user turn: training data is cleaned of it),
        and what grading needs."""

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        """Named reference numbers of these rows, such as chance."""
        return {}

    @abstractmethod
    def asks(self, row: Row) -> list[Ask]:
        """What the model is asked about a stored row."""

    def asks_then(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Ask]:
        """What is asked once the replies are there, such as what a judge thinks of them."""
        return []

    @abstractmethod
    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        """The records of a row, from the replies to each of its asks, `asks_then` last."""

    @classmethod
    @abstractmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        """Metric name within the suite -> its values, from the records alone."""

    def item(self, row: Row, reply: Reply, *, score: str, grades: Mapping[str, float | None], **more: Any) -> Item:
        """The record of one reply; `score` names the grade that counts first."""
        grades = {name: grade if grade is None or math.isfinite(grade) else None for name, grade in grades.items()}
        value = grades[score]
        unmeasured = None if value is not None else reply.unmeasured or "not_gradable"
        known: dict[str, Any] = {
            "kind": self.kind,
            "suite": self.name,
            "id": row["id"],
            "slice": row.get("slice", ""),
            "cluster": row.get("cluster", ""),
            "mode": reply.mode,
            "sample": reply.sample,
            "prompt_digest": reply.prompt_digest,
            "answer": reply.text,
            "score": value,
            "grades": grades,
            "log_probability": reply.log_probability,
            "tokens": reply.tokens,
            "unmeasured": unmeasured,
        }
        return Item(**{**known, **more})

    def ungraded(self, row: Row, reply: Reply, reason: str) -> Item:
        """The record of a reply that could not be graded."""
        return self.item(row, reply, score="", grades={"": None}, unmeasured=reason).model_copy(update={"grades": {}})

    def labels(self, row: Row) -> Row:
        """The parts of a raw row that name its slice and its cluster."""
        found = {"slice": row.get(self.slice_field), "cluster": row.get(self.cluster_field)}
        return {name: str(value) for name, value in found.items() if value is not None}


def collected(family: Family, items: Iterable[Item], grade: str, **more: Any) -> Measure:
    """The values of one grade, by item: one record an item. A second one would count twice, and is refused."""
    measure = Measure(family, **more)
    for item in items:
        add(measure, item, item.grades.get(grade))
    return measure


def add(measure: Measure, item: Item, value: float | None, weight: float | None = None) -> None:
    """Enter an item's value; `slice/id` is its name where the suite has slices."""
    name = f"{item.slice}/{item.id}" if item.slice else item.id
    if name in measure.values:
        raise DamagedArtifact(f"expected one record an item, found {name!r} twice. Evaluate again.")
    measure.values[name] = value
    if weight is not None:
        measure.weights[name] = weight
    if item.cluster:
        measure.clusters[name] = item.cluster
