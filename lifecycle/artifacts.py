"""The nouns of the lifecycle, in the order they are made. How a directory becomes one is in `sealing`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.sealing import Artifact, FileEntry, later_field


class Suites(Artifact):
    """What is held out from every training stage, sealed first: one `<suite>.jsonl` per suite.

    Rows: id, messages (the prompt ends with a user turn), and what the suite's kind grades with.
    """

    items: dict[str, int]
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="How each suite asks and grades; one without settings is a contract suite."
    )
    baselines: dict[str, float] = Field(
        default_factory=dict, description="Named reference numbers of the rows: chance, the commonest answer."
    )

    def file_of(self, suite: str) -> Path:
        return self.path / f"{suite}.jsonl"


class SourceCount(BaseModel):
    """What one source gave: documents and bytes that survived, and what was dropped, by reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    licence: str
    read: int
    kept: int
    kept_bytes: int
    dropped: dict[str, int] = Field(default_factory=dict)
    train_bytes: int = Field(0, description="Of `train.jsonl`, repetitions counted.")
    share: float | None = Field(None, description="Of the training bytes, achieved.")
    asked_share: float | None = Field(None, description="What the mixture asked for; None: all there is was taken.")


class Corpus(Artifact):
    """Clean documents: `train.jsonl`, `validation.jsonl` (rows: source, id, text) and samples of what was dropped."""

    train_documents: int = Field(description="Rows of `train.jsonl`: a document that the mixture repeats is several.")
    validation_documents: int
    sources: dict[str, SourceCount]
    suites_digest: str = Field(description="The evaluation items this text was decontaminated against.")
    shortfalls: list[str] = Field(default_factory=list, description="Where the mixture is not what was asked for.")

    @property
    def train_file(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def validation_file(self) -> Path:
        return self.path / "validation.jsonl"


class Tokenizer(Artifact):
    """A Hugging Face tokenizer folder (`tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`)."""

    vocab_size: int
    bos_id: int
    pad_id: int
    stop_id: int = Field(description="The token that ends an assistant turn, and generation with it.")
    protocol_digest: str = Field(description="SHA-256 over the chat template, the special ids and tokenizer.json.")


class TokenShards(Artifact):
    """Rows of exactly `max_seq_len` ids in `train-*.bin`, and a held-out sample of rows in `validation.bin`."""

    max_seq_len: int
    vocab_size: int
    rows: int
    validation_rows: int
    tokens: int
    dtype: Literal["uint16", "uint32"]
    tokens_by_source: dict[str, int]
    protocol_digest: str


class Demonstrations(Artifact):
    """Curated conversations that show the behaviour: `train.jsonl`, `dev.jsonl` (rows: id, source, messages)."""

    train_rows: int
    dev_rows: int
    dropped: dict[str, int]
    suites_digest: str
    shortfalls: list[str] = later_field([], description="Where the sources' shares are not what was asked for.")


class Comparisons(Artifact):
    """Pairs where one answer should win: `train.jsonl`, `heldout.jsonl` (rows: id, prompt, chosen, rejected)."""

    train_pairs: int
    heldout_pairs: int
    dropped: dict[str, int]
    length_alone_predicts: float = Field(description="Share of pairs in which the shorter answer is the chosen one.")
    suites_digest: str


class Checkpoint(Artifact):
    """A Hugging Face model folder with its tokenizer: what training makes, and what is evaluated and released."""

    role: Literal["base", "sft", "reward", "preference"]
    parameters: int
    max_seq_len: int
    protocol_digest: str
    steps: int
    tokens_seen: int
    final_loss: float
    supervised_share: float | None = Field(None, description="Share of tokens the loss covered; None for pretraining.")
    supervised_shares: dict[str, float] = later_field(
        {}, description="The same of each source, where there are several."
    )
    dropped: dict[str, int] = Field(default_factory=dict, description="Training rows left out, by reason.")
    cut_rows: int = later_field(0, description="Training rows cut behind an answer, so that they fit.")
    findings: dict[str, int] = Field(default_factory=dict, description="What the watchdog said in training, by rule.")
    drift: dict[str, float] = later_field({}, description="How far it moved from its reference, where watched.")
    foreign_files: dict[str, FileEntry] = later_field({}, description="What an adopted base was read from, by name.")
    start_loss: float | None = later_field(
        None, description="Validation loss of the base before the first step, where pretraining went on from one."
    )


class Score(BaseModel):
    """One metric over a suite's items: its mean with a confidence interval, and how many items stand behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean: float | None = Field(description="None when nothing could be measured.")
    low: float | None
    high: float | None
    items: int
    unmeasured: int = Field(0, description="Items with no score. They are never counted as right, wrong or absent.")
    higher_is_better: bool = True


class Contamination(BaseModel):
    """How much of a suite occurs in the training text: items that share an n-gram of words with a document of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    items: int
    checked: int = Field(description="Items long enough to be told from ordinary text.")
    contaminated: int
    ngram_words: int
    examples: dict[str, str] = Field(default_factory=dict, description="Item -> a document it occurs in, a sample.")


class EvalReport(Artifact):
    """Scores by metric name, and every item's record in `items.parquet`, so that any number can be recomputed."""

    checkpoint_digest: str
    protocol_digest: str
    suites_digest: str = Field(description="Reports with different suites cannot be compared.")
    scoring_digest: str = Field("", description="Equal for reports that differ only in how many items they took.")
    scores: dict[str, Score]
    baselines: dict[str, float] = Field(description="Named reference numbers: majority answer, bigram bits per byte.")
    contamination: dict[str, Contamination] = Field(
        default_factory=dict,
        description="By suite, in the corpus's training text; where there is no corpus, in the demonstrations.",
    )
    copied_items: int = Field(0, description="Records taken over from an earlier report on fewer items.")


class Check(BaseModel):
    """One line of the gate's reasoning."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str
    rule: Literal["floor", "ceiling", "guard", "target"]
    required: bool = Field(True, description="Whether it can hold the release back.")
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED"]
    reason: str
    candidate: float | None
    live: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    evaluated: int | None = Field(None, description="Items it stands on, measured or not.")
    next_look: int | None = Field(None, description="Items at the next planned look; None when there is none.")
    items: list[str] = Field(default_factory=list, description="Items that got worse, a sample.")


class GateDecision(Artifact):
    """Whether exactly this checkpoint may replace exactly that live release, and why."""

    verdict: Literal["PROMOTE", "BLOCK", "INCONCLUSIVE"]
    checkpoint_digest: str
    report_digest: str
    against: str | None = Field(description="Digest of the live checkpoint compared with; None for a first release.")
    baseline: str | None = later_field(
        None, description="Digest of the adopted base compared with, where nothing was live yet."
    )
    checks: list[Check]

    @property
    def promote(self) -> bool:
        """The verdict, held against its checks: a decision without any, or with one open, promotes nothing."""
        required = {check.verdict for check in self.checks if check.required}
        return self.verdict == "PROMOTE" and required == {"PASS"}


class Release(Artifact):
    """A plain Hugging Face folder in `model/`, with its card, and the lineage that led to it beside it."""

    checkpoint_digest: str
    decision_digest: str
    report_digest: str
    scores: dict[str, float]

    @property
    def model_dir(self) -> Path:
        return self.path / "model"


KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind
    for kind in (
        Suites,
        Corpus,
        Tokenizer,
        TokenShards,
        Demonstrations,
        Comparisons,
        Checkpoint,
        EvalReport,
        GateDecision,
        Release,
    )
}


def summary(artifact: Artifact) -> dict[str, Any]:
    """The few numbers a person looks at first, for tables and trackers; nested facts are left to the manifest."""
    return {name: value for name, value in artifact.facts().items() if isinstance(value, int | float | str | bool)}
