"""Pairs of answers in which one should win: checked, distinct, free of contradictions and of held-out items."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle import contracts, progress
from lifecycle.artifacts import Checkpoint, Comparisons, Suites
from lifecycle.data import comparisons_report as reports
from lifecycle.data.comparison_rows import (
    NO_PLACE,
    Judged,
    by_worth,
    fault_of_prompt,
    fault_of_row,
    is_held_out,
    pair_key,
    pairs_of,
    without_contradictions,
)
from lifecycle.data.comparisons_report import ComparisonsReport
from lifecycle.data.conversations import prompt_key
from lifecycle.data.curation import Curator
from lifecycle.data.decontaminate import HeldOut, NgramRule
from lifecycle.data.jsonl import Row, fault_of_text, load_rows, read_rows, write_rows
from lifecycle.errors import ContractError, InputError
from lifecycle.evaluation.verifier import verified, worth
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import LOG_FOLDER, SCRATCH_FOLDER, StageConfig, later_field

WORKER = "lifecycle.workers.sample"
ANSWERS = "answers.jsonl"
FIELDS = ("id", "source", "prompt", "chosen", "rejected", "provenance")
SAMPLED = "sampled"


class ComparisonSource(BaseModel):
    """More pairs, rankings or ratings, under a name and a licence of their own: an export of the desk, a public set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[\w.-]+$")
    path: Path = Field(description="A .jsonl file (or .gz, .zst).")
    licence: str = Field("unstated", min_length=1)


class Sampled(BaseModel):
    """Answers of the SFT checkpoint itself, ranked by a verifier or by a reward model."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompts: Path = Field(description="Rows: id, prompt, and what a verifier grades by (field and value, or checks).")
    answers_per_prompt: int = Field(4, ge=2, le=64)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(
        64, ge=1, description="An answer that has not stopped by then is left out, and counted."
    )
    seed: int = Field(0, description="Names the random numbers of every answer.")
    reward: Path | None = Field(None, description="A reward checkpoint that ranks; None: the verifier does.")
    licence: str = Field("our own model's answers", min_length=1)


class ComparisonsConfig(StageConfig):
    """Which pairs: a file of them, more sources, answers drawn from our own model, or all of these.

    Rows are pairs, rankings or ratings (`lifecycle.data.comparison_rows`).
    """

    stage: ClassVar[str] = "comparisons"
    train: Path | None = Field(None, description="Pairs to train on, .jsonl or .jsonl.gz.")
    heldout: Path | None = Field(
        None, description="Pairs to watch reward accuracy on; their prompts are dropped from train. None: see below."
    )
    licence: str = Field("unstated", min_length=1, description="What allows its use.")
    max_bad_row_share: float = Field(0.0, ge=0, le=1, description="More unusable rows than this refuse the file.")
    decontamination: NgramRule = Field(NgramRule(ngram_words=8), description="As for demonstrations.")
    sources: tuple[ComparisonSource, ...] = later_field((), description="More files, in order of preference.")
    sampled: Sampled | None = later_field(None, description="Answers drawn from the SFT checkpoint.")
    heldout_share: float = later_field(
        0.1, gt=0, lt=0.5, description="Of the prompts, by hash, to watch: of `sources`, and of all without `heldout`."
    )
    pairs_per_prompt: int = later_field(3, ge=1, description="Of a ranking or of ratings: the widest gaps first.")
    min_rating_gap: float = later_field(0.0, ge=0, description="Ratings that differ by no more say nothing.")
    max_contradicted_share: float = later_field(
        0.05, ge=0, le=1, description="Of the pairs that a verifier can decide; more refuse the stage."
    )
    max_contaminated_share: float = later_field(
        0.05,
        ge=0,
        le=1,
        description="Of the pairs, about held-out items: fewer are dropped and named, more refuse the stage, for such "
        "a set was made from the evaluation.",
    )
    length_level: float = later_field(
        0.97, gt=0.5, le=1, description="Share of pairs that length alone may predict without a warning."
    )
    phrase_level: float = later_field(
        0.5, gt=0, le=1, description="Share of pairs that one phrase may decide without a warning."
    )

    @model_validator(mode="after")
    def _there_are_pairs(self) -> Self:
        if self.train is None and not self.sources and self.sampled is None:
            raise ValueError("expected train, sources or sampled, found none: there would be no pairs.")
        names = [source.name for source in self.sources]
        if len({*names, SAMPLED, ""}) < len(names) + 2:
            raise ValueError(f"expected sources with different names, and none {SAMPLED!r}, found {names}.")
        return self


class SampleJob(Job):
    """What `lifecycle.workers.sample` is handed. It writes rows of id, prompt, answers and checkpoint."""

    model: Path
    prompts: Path
    answers: Path
    checkpoint: str
    max_seq_len: int
    answers_per_prompt: int
    temperature: float
    max_new_tokens: int
    seed: int
    reward: Path | None = None


class Drawn(BaseModel):
    """What the worker brings back beside the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    answers: int
    not_stopped: int
    too_long: int


class _Part(NamedTuple):
    """Pairs of one origin, before any is dropped."""

    name: str
    licence: str
    rows: list[Row]
    faults: Counter[str]
    side: str | None = None
    """The side all of it is on; None: by the hash of the prompt."""

    def of(self, side: str) -> list[Row]:
        """Its pairs on this side."""
        return [row for row in self.rows if side == (self.side or ("heldout" if row["is_held_out"] else "train"))]


def curate_comparisons(
    config: ComparisonsConfig, suites: Suites, checkpoint: Checkpoint | None = None, *, out_dir: Path
) -> Comparisons:
    """Distinct pairs, none about a held-out item, none contradicted by another, in a train and a held-out file."""
    contracts.holds_items(suites)
    if (config.sampled is None) != (checkpoint is None):
        raise ContractError(
            "expected a checkpoint where comparisons.sampled asks for its answers, and nowhere else; found one without "
            "the other. Run the whole flow, or leave sampled out."
        )
    (out_dir / LOG_FOLDER).mkdir(exist_ok=True)  # where a stage is called by hand
    parts = list(_files(config))
    if config.sampled is not None and checkpoint is not None:
        parts.append(_sampled(config, config.sampled, checkpoint, out_dir))
    kept, dropped = _curated(config, suites, parts)
    reports.not_made_from_the_evaluation(kept, dropped, at_most=config.max_contaminated_share)
    report = _report(config, parts, kept, dropped)
    reports.labels_hold(report.verified, at_most=config.max_contradicted_share)
    for side, rows in kept.items():
        write_rows(out_dir / f"{side}.jsonl", ({name: row[name] for name in FIELDS if name in row} for row in rows))
    (out_dir / reports.REPORT).write_text(report.model_dump_json(indent=1))
    return Comparisons(
        path=out_dir,
        train_pairs=len(kept["train"]),
        heldout_pairs=len(kept["heldout"]),
        dropped=dict(dropped),
        length_alone_predicts=report.lengths.shorter_is_chosen,
        suites_digest=suites.digest,
    ).seal(config, suites, *([] if checkpoint is None else [checkpoint]))


def _files(config: ComparisonsConfig) -> Iterator[_Part]:
    """The pairs of every file, in order of preference."""
    if config.heldout is not None:
        yield _Part("", config.licence, *_pairs(config, config.heldout, ""), side="heldout")
    if config.train is not None:
        side = None if config.heldout is None else "train"
        yield _Part("", config.licence, *_pairs(config, config.train, ""), side=side)
    for number, source in enumerate(config.sources):
        progress.report(number, len(config.sources), "files", source.name)
        yield _Part(source.name, source.licence, *_pairs(config, source.path, source.name))


def _pairs(config: ComparisonsConfig, path: Path, source: str) -> tuple[list[Row], Counter[str]]:
    rows, faults = read_rows(path, fault_of_row, max_bad_row_share=config.max_bad_row_share)
    found = pairs_of(rows, per_prompt=config.pairs_per_prompt, min_gap=config.min_rating_gap)
    return [_named(config, row, source) for row in found], faults


def _named(config: ComparisonsConfig, row: Row, source: str) -> Row:
    """The pair with its source, where it has one, and the side it is on."""
    names = {"id": f"{source}/{row['id']}", "source": source} if source else {}
    return {**row, **names, "is_held_out": is_held_out(row, config.heldout_share)}


def _sampled(config: ComparisonsConfig, sampled: Sampled, checkpoint: Checkpoint, out_dir: Path) -> _Part:
    """Pairs of answers that the checkpoint gives; the answers themselves are sealed beside them."""
    contracts.has_role(checkpoint, "sft")
    job = SampleJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        model=checkpoint.path,
        answers=out_dir / ANSWERS,
        checkpoint=checkpoint.digest,
        max_seq_len=checkpoint.max_seq_len,
        **sampled.model_dump(exclude={"licence"}),
    )
    drawn = run_worker(WORKER, job, Drawn, on_accelerators=True)
    faults = Counter({"answer_not_stopped": drawn.not_stopped, "prompt_too_long": drawn.too_long})
    rows: list[Row] = []
    for row in load_rows(out_dir / ANSWERS):
        judged = [_judged(sampled, row, answer) for answer in row["answers"] if not fault_of_text(answer["content"])]
        rows += by_worth(row, judged, per_prompt=config.pairs_per_prompt, min_gap=config.min_rating_gap)
    return _Part(SAMPLED, sampled.licence, [_named(config, row, SAMPLED) for row in rows], +faults)


def _judged(sampled: Sampled, row: Row, answer: Row) -> Judged:
    found = worth(row, answer["content"]) if sampled.reward is None else answer["reward"]
    if found is None:
        raise InputError(
            f"{sampled.prompts}, row {row['id']!r}: expected field and value, or checks that can be decided, found "
            "neither: no verifier can rank its answers. Add them, or name a reward checkpoint (sampled.reward)."
        )
    return Judged(answer["content"], found, NO_PLACE)


def _curated(
    config: ComparisonsConfig, suites: Suites, parts: Sequence[_Part]
) -> tuple[dict[str, list[Row]], Counter[str]]:
    """The pairs of both sides, held-out ones first: what is asked there is not trained on. And why others are not."""
    curator = Curator(HeldOut(suites, config.decontamination))
    kept: dict[str, list[Row]] = {}
    dropped: Counter[str] = Counter()
    heldout_prompts: set[str] = set()
    for done, (side, path) in enumerate((("heldout", config.heldout), ("train", config.train))):
        progress.report(done, 2, "sides", side)
        rows, contradictions = without_contradictions([row for part in parts for row in part.of(side)])
        kept[side], reasons = curator.curate(
            rows,
            prompt=lambda row: row["prompt"],
            same=pair_key,
            elsewhere=heldout_prompts,
            path=path or Path(f"the {side} pairs"),
        )
        faults = sum((part.faults for part in parts if (part.side or "train") == side), Counter[str]())
        counts = faults + reasons + Counter(contradiction=contradictions)
        dropped.update({f"{side}_{reason}": count for reason, count in sorted(counts.items())})
        heldout_prompts.update(prompt_key(row["prompt"]) for row in kept[side])
    return kept, dropped


def _report(
    config: ComparisonsConfig, parts: Sequence[_Part], kept: Mapping[str, Sequence[Row]], dropped: Mapping[str, int]
) -> ComparisonsReport:
    return reports.report_of(
        kept["train"],
        kept["heldout"],
        licences={part.name: part.licence for part in parts},
        dropped=dropped,
        verified=verified([*kept["train"], *kept["heldout"]]),
        length_level=config.length_level,
        phrase_level=config.phrase_level,
    )


def check_rows(config: ComparisonsConfig) -> None:
    """Raise InputError where a file has too many rows that are no comparison."""
    paths = (config.train, config.heldout, *(source.path for source in config.sources))
    for path in filter(None, paths):
        read_rows(path, fault_of_row, max_bad_row_share=config.max_bad_row_share)
    if config.sampled is not None:
        read_rows(config.sampled.prompts, fault_of_prompt, max_bad_row_share=0)
