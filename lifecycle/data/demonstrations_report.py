"""What the report of demonstrations says: the funnel of a corpus, with rows as what is counted and mixed.

It lies in the artifact's `log/`: how the rows were chosen is verified, but is no part of what they are.
"""

from pathlib import Path

from pydantic import Field

from lifecycle.data.corpus_report import Decontamination, Duplicates, Facts, Histogram, Step, Tally
from lifecycle.sealing import LOG_FOLDER

REPORT = f"{LOG_FOLDER}/report.json"
SAMPLES = f"{LOG_FOLDER}/dropped.jsonl"


class RowShare(Facts):
    """A source's part of the training rows, repetitions counted."""

    available_rows: int = Field(
        description="Distinct conversations: after every filter and cap, without held-out ones."
    )
    train_rows: int
    epochs: float = Field(description="Training rows over available rows.")
    asked_share: float | None = Field(None, description="None without a mixture: everything is taken.")
    share: float


class RowMixtureFacts(Facts):
    """The mixture asked for and the one achieved."""

    asked_rows: int | None = Field(None, description="The budget, or what the shares allow; None without a mixture.")
    sources: dict[str, RowShare]
    shortfalls: list[str] = Field(default_factory=list)


class Kinds(Facts):
    """What the conversations of a source are like, before any was dropped for what it says."""

    shape: str = Field(description="The shape found, and the field that holds the turns.")
    licence: str
    conversations: int = 0
    with_system: int = 0
    with_several_answers: int = 0
    with_tools: int = 0


class HeldOutRows(Facts):
    """Conversations to watch the loss on. Fewer than asked: more would have split equal prompts or near-copies."""

    asked_rows: int
    rows: int


class DemonstrationsReport(Facts):
    """The whole of it."""

    steps: list[Step] = Field(description="Documents are conversations, bytes those of what their turns say.")
    kinds: dict[str, Kinds]
    lengths: dict[str, Histogram] = Field(description="Source -> characters of its conversations.")
    languages: dict[str, dict[str, Tally]] = Field(
        default_factory=dict, description="Source -> language of the answers."
    )
    near_duplicates: Duplicates | None = None
    decontamination: Decontamination
    mixture: RowMixtureFacts
    held_out: dict[str, HeldOutRows]


def write_folder(out_dir: Path) -> None:
    """Make the folder the report goes to, where a stage is called by hand."""
    (out_dir / LOG_FOLDER).mkdir(exist_ok=True)
