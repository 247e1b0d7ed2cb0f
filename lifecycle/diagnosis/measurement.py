"""What `diagnose --measure` asks a run's checkpoints, beside what the evaluation asked them: bounded, kept on record.

`measure` starts the worker and leaves `measured.json` beside the run's record; probes read it as `Records.measured`.
It counts only while the run has the artifacts that it was measured on.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.artifacts import Checkpoint, Suites
from lifecycle.evaluation.kinds import AnySuite, sealed_suite
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import write_atomically

if TYPE_CHECKING:
    from lifecycle.diagnosis.records import Records

WORKER = "lifecycle.workers.measure"
FILE = "measured.json"
START_SECONDS = 8.0  # of a worker until its first batch, most of it importing torch
PASSES = 6  # over the items of each suite: greedy as asked, in three other ways, and with two seeds
ON = ("suites", "corpus", "demonstrations", "pretrain", "base", "sft", "preference")
"""Stages whose artifacts a measurement is about."""

Variant = Literal["as_asked", "one_shot", "with_record", "doubled_bos", "no_system"]


class MeasureJob(Job):
    """What `lifecycle.workers.measure` is handed; a checkpoint or text that the run has not is None."""

    items: int = Field(ge=1, description="Of each suite, and rows of every other text.")
    seeds: tuple[int, int] = (1, 2)
    max_new_tokens: int
    temperature: float
    precision: Literal["fp32", "bf16"]
    candidate: Path
    sft: Path | None
    base: Path | None
    suites: tuple[AnySuite, ...]
    demonstrations: Path | None
    validation_file: Path | None
    max_seq_len: int
    threads: int


class Loss(BaseModel):
    """What the answers of one kind cost the SFT checkpoint, on held-out demonstrations."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rows: int
    tokens: int
    nats: float


class Counted(BaseModel):
    """So many of so many."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    hits: int
    of: int


class Measured(BaseModel):
    """What the worker brings back. A variant that could not be asked has a reason in `faults` and no scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scores: dict[str, dict[str, float | None]] = Field(description="By variant, by suite/id; None: not measured.")
    seeds: list[dict[str, float | None]] = Field(description="Sampled answers' scores, a seed each.")
    faults: dict[str, str]
    served: Counted | None = Field(description="Prompts that transformers renders to the same ids, as a server would.")
    stop_ranks: list[int] = Field(description="Of the stop token behind each right answer; 1 is the first choice.")
    losses: dict[str, Loss] = Field(description="By kind of demonstration.")
    continuations: Counted | None = Field(
        description="Pairs of held-out texts that the base matches with their own next words."
    )


class Measurement(BaseModel):
    """The record of one measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    about: dict[str, str] = Field(description="Stage -> digest of what it was measured on.")
    items: int
    seconds: float
    found: Measured


def read(run: "Records") -> Measurement | None:
    """The run's measurement; None where there is none, or it is about other artifacts than the run has now."""
    try:
        record = Measurement.model_validate_json((run.run.folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.about == about(run) else None


def about(run: "Records") -> dict[str, str]:
    """What a measurement of this run would be about."""
    return {stage: run.manifests[stage].digest for stage in ON if stage in run.manifests}


def expected_seconds(run: "Records", answers: int) -> float:
    """What asking for so many answers of every suite takes, by what the run's own evaluation took for its answers."""
    drawn = [item for item in run.items if item.mode in ("greedy", "sampled")]
    suites = {item.suite for item in drawn}
    took = run.seconds_of_items(suites)
    return START_SECONDS + answers * len(suites) * took / max(1, len(drawn))


def measure(run: "Records", items: int) -> Measurement:
    """Ask the run's checkpoints, and leave what they said beside the run's record."""
    assert run.candidate is not None
    started, scratch = time.monotonic(), run.run.folder / "measuring"
    job = _job(run, scratch, items)
    try:
        found = run_worker(WORKER, job, Measured, threads=1, on_accelerators=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    record = Measurement(about=about(run), items=items, seconds=round(time.monotonic() - started, 1), found=found)
    write_atomically(run.run.folder / FILE, record.model_dump_json(indent=1).encode())
    return record


def _job(run: "Records", scratch: Path, items: int) -> MeasureJob:
    asked: Mapping[str, object] = run.config("evaluate")
    candidate = Checkpoint.load(run.folders[run.candidate or ""])
    suites = Suites.load(run.folders["suites"]) if "suites" in run.folders else None
    base = next((run.folders[stage] for stage in ("pretrain", "base") if stage in run.folders), None)
    return MeasureJob.model_validate(
        {
            "out_dir": scratch,
            "scratch_dir": scratch,
            "items": items,
            "max_new_tokens": asked.get("max_new_tokens", 32),
            "temperature": asked.get("sampled_temperature", 1.0),
            "precision": asked.get("precision", "fp32"),
            "candidate": candidate.path,
            "sft": run.folders.get("sft"),
            "base": base,
            "suites": [] if suites is None else [sealed_suite(suites, name) for name in sorted(suites.items)],
            "demonstrations": run.folders.get("demonstrations"),
            "validation_file": run.folders["corpus"] / "validation.jsonl" if "corpus" in run.folders else None,
            "max_seq_len": candidate.max_seq_len,
            "threads": 1,
        }
    )
