"""What `report.json` of a corpus says: every step's counts by source and reason, distributions, duplicates, shares.

A page or a table is drawn from this and from the corpus's own facts; nothing else is needed.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FILE = "report.json"
Reason = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]  # it is printed, also that of a foreign corpus

StepName = Literal[
    "read",
    "normalise",
    "language",
    "quality",
    "scrub",
    "repeated_ids",
    "exact_duplicates",
    "near_duplicates",
    "decontamination",
    "held_out_prompts",
    "caps",
    "mixture",
]
"""Of a corpus all but `held_out_prompts`, of demonstrations all but `normalise` and `scrub`."""


class Facts(BaseModel):
    """Base of the parts: plain data, written by the stage and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tally(Facts):
    """So many documents, with so many bytes of text in UTF-8."""

    documents: int = 0
    bytes: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(documents=self.documents + other.documents, bytes=self.bytes + other.bytes)


class SourceStep(Facts):
    """One source in one step. Documents: entered = left + dropped. Bytes that are missing then were edited out."""

    entered: Tally
    left: Tally
    dropped: dict[Reason, Tally] = Field(default_factory=dict, description="By reason; a bad row counts no bytes.")

    def __add__(self, other: "SourceStep") -> "SourceStep":
        dropped = dict(self.dropped)
        for reason, tally in other.dropped.items():
            dropped[reason] = dropped.get(reason, Tally()) + tally
        return SourceStep(entered=self.entered + other.entered, left=self.left + other.left, dropped=dropped)


class Step(Facts):
    """One step of the chain that was switched on, in the order in which they ran."""

    name: StepName
    sources: dict[str, SourceStep]


class Histogram(Facts):
    """Counts between rising edges: bin i holds values from `edges[i]` up to, without, `edges[i + 1]`."""

    edges: list[float]
    kept: list[int] = Field(description="Documents that are in the corpus, each once, however often it is repeated.")
    dropped: list[int] = Field(description="Documents that are not.")


class Duplicates(Facts):
    """Near-duplicate search among what exact deduplication left."""

    candidate_pairs: int
    verified_pairs: int
    clusters: int = Field(description="Of two documents or more.")
    documents: int = Field(description="In these clusters.")
    cluster_sizes: dict[int, int] = Field(description="Size -> clusters of that size.")


class Decontamination(Facts):
    """What was looked for, and what was found."""

    items: int
    items_without_a_distinctive_ngram: int = Field(description="Only their prompts are kept out of conversations.")
    distinctive_ngrams: int
    items_found: dict[str, int] = Field(description="Suite -> its items that a document was dropped for.")


class SourceShare(Facts):
    """A source's part of the training text, in bytes, repetitions counted."""

    available_bytes: int = Field(description="Of distinct training documents: after every filter, without validation.")
    train_bytes: int
    train_rows: int
    epochs: float = Field(description="Train bytes over available bytes.")
    asked_share: float | None = Field(None, description="None without a mixture: everything is taken.")
    share: float


class MixtureFacts(Facts):
    """The mixture asked for and the one achieved."""

    asked_bytes: int | None = Field(None, description="The budget, or what the shares allow; None without a mixture.")
    train_bytes: int
    bytes_per_token: float | None = Field(None, description="The estimate by which a token budget became bytes.")
    sources: dict[str, SourceShare]
    shortfalls: list[str] = Field(
        default_factory=list, description="A sentence for each share that is off by more than 1 %, and for the budget."
    )


class Validation(Facts):
    """How much of a source is held out. Fewer than asked: what was left would have split a cluster."""

    asked_documents: int
    documents: int
    bytes: int


class CorpusReport(Facts):
    """The whole of it."""

    steps: list[Step]
    lengths: dict[str, Histogram] = Field(description="Source -> characters of its documents.")
    scores: dict[str, dict[str, Histogram]] = Field(
        default_factory=dict, description="Score ('language': probability of the language found) -> source -> counts."
    )
    languages: dict[str, dict[str, Tally]] = Field(
        default_factory=dict, description="Source -> language found -> documents, before any was dropped for it."
    )
    normalised: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="Source -> kind -> changes in documents that passed."
    )
    removed_lines: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="Source -> C4's reason -> lines taken out of documents that passed."
    )
    scrubbed: dict[str, dict[str, int]] = Field(default_factory=dict, description="Source -> kind -> placeholders.")
    near_duplicates: Duplicates | None = None
    decontamination: Decontamination
    mixture: MixtureFacts
    validation: dict[str, Validation]


def read_report(corpus_dir: Path) -> CorpusReport:
    """The report of a sealed corpus."""
    return CorpusReport.model_validate_json((corpus_dir / FILE).read_bytes())
