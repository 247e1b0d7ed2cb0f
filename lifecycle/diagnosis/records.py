"""What a run left behind, read once and only when a probe asks: manifests, curves, findings, answers.

Every accessor says None where there is nothing. Whether that is a reason to worry is for the probe to say.
"""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from lifecycle import sealing
from lifecycle.artifacts import EvalReport, GateDecision
from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.diagnosis import measurement
from lifecycle.diagnosis.measurement import Measurement
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.items import Item, read_items
from lifecycle.model.architecture import ModelConfig
from lifecycle.runs import Run, StageRecord
from lifecycle.sealing import LOG_FOLDER, Manifest
from lifecycle.store import Store

CANDIDATES = ("preference", "sft", "pretrain", "base")
"""Stages whose checkpoint is evaluated: the last one a run has."""
RENDERED_ROWS = 200  # of the demonstrations, where one looks at how they are rendered
PLATEAU = "unigram_plateau"  # the watchdog's rule: nothing was learned but how often each token comes
SHORT = 12  # characters of a digest that are shown


class Asked(NamedTuple):
    """An item of a suite, what the model said most likely, and how that was graded."""

    row: Row
    item: Item


class Records:
    """One run of a store."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run = store, run
        self.state, self.message = run.state, run.record.message

    @cached_property
    def stages(self) -> list[StageRecord]:
        """What the run recorded and is still there."""
        return [stage for stage in self.run.stages if (Path(stage.path) / sealing.MANIFEST).exists()]

    @cached_property
    def gone(self) -> list[str]:
        """Stages whose artifact was removed since."""
        return [stage.stage for stage in self.run.stages if stage not in self.stages]

    @cached_property
    def folders(self) -> dict[str, Path]:
        return {stage.stage: Path(stage.path) for stage in self.stages}

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        return {stage: sealing.read_manifest(folder) for stage, folder in self.folders.items()}

    @property
    def candidate(self) -> str | None:
        """The stage whose checkpoint was to go live."""
        return next((stage for stage in CANDIDATES if stage in self.folders), None)

    @cached_property
    def decision(self) -> GateDecision | None:
        return GateDecision.load(self.folders["gate"]) if "gate" in self.folders else None

    @cached_property
    def report(self) -> EvalReport | None:
        """The candidate's."""
        return EvalReport.load(self.folders["evaluate"]) if "evaluate" in self.folders else None

    def report_of(self, stage: str) -> EvalReport | None:
        """A report in this store on the checkpoint of another stage of this run, asked some of the same items alike.

        One with another limit on answers says nothing of what happened between: what it cuts looks lost.
        """
        if self.report is None or not {stage, "suites"} <= set(self.manifests):
            return None
        asked, checkpoint = self.manifests["suites"].digest, self.manifests[stage].digest
        for path in sorted((self.store.root / "artifacts").glob(f"evaluate/*/{sealing.MANIFEST}")):
            try:
                report = sealing.read_manifest(path.parent)
            except DamagedArtifact:
                continue
            about = report.facts["checkpoint_digest"] == checkpoint
            alike = _way_of_asking(report) == _way_of_asking(self.report.manifest)
            if about and alike and asked in {entry.digest for entry in report.inputs}:
                return EvalReport.load(path.parent)
        return None

    @cached_property
    def measured(self) -> Measurement | None:
        """What `diagnose --measure` found about exactly these artifacts."""
        return measurement.read(self)

    @cached_property
    def items(self) -> list[Item]:
        """Every record of the candidate's report; none where they cannot be read, which each probe then says."""
        try:
            return [] if self.report is None else list(read_items(self.report.path))
        except DamagedArtifact:
            return []

    def items_of(self, report: EvalReport) -> list[Item]:
        """Every record of a report."""
        return self.items if report is self.report else list(read_items(report.path))

    @cached_property
    def asked(self) -> list[Asked]:
        """Every greedy answer, beside the item it answers."""
        return [] if self.report is None else self.asked_in(self.report)

    def asked_in(self, report: EvalReport) -> list[Asked]:
        """Every greedy answer of a report."""
        greedy = [item for item in self.items_of(report) if item.mode == "greedy"]
        rows = {suite: {row["id"]: row for row in self.suite(suite)} for suite in {item.suite for item in greedy}}
        return [Asked(rows[item.suite][item.id], item) for item in greedy if item.id in rows[item.suite]]

    def suite(self, name: str) -> list[Row]:
        file = self.folders["suites"] / f"{name}.jsonl"
        return list(load_rows(file)) if file.exists() else []

    def curve(self, stage: str, name: str) -> list[tuple[int, float]]:
        """Step and value of everything a stage's worker measured under a name."""
        return [
            (int(row["step"]), float(row[name])) for row in self._log(stage, "metrics") if row.get(name) is not None
        ]

    def timed(self, stage: str, name: str) -> list[tuple[int, float, float]]:
        """Step, clock and value of everything a stage's worker measured under a name."""
        rows = (row for row in self._log(stage, "metrics") if row.get(name) is not None and "time" in row)
        return [(int(row["step"]), float(row["time"]), float(row[name])) for row in rows]

    def validations(self, stage: str) -> list[dict[str, float]]:
        """The last measurement on held-out rows, as the worker wrote it; empty without one."""
        rows = [row for row in self._log(stage, "metrics") if any("/" in name for name in row) and row.get("step")]
        return rows[-1:]

    @cached_property
    def unsealed(self) -> Path | None:
        """What was being made when the run ended before its time."""
        record, found = self.run.record, dict[Path, float]()
        for attempt in (self.store.root / "artifacts").glob(f"*/*/{LOG_FOLDER}/attempt.json"):
            folder = attempt.parent.parent
            began = attempt.stat().st_mtime
            if record.started <= began <= (record.ended or began) and not (folder / sealing.MANIFEST).exists():
                found[folder] = began
        return max(found, key=found.__getitem__) if found else None

    @cached_property
    def ended_in(self) -> str | None:
        """The stage that was being made then."""
        return None if self.unsealed is None else self.unsealed.parent.name

    @cached_property
    def longest_answer(self) -> int | None:
        """Tokens of the longest of the first demonstrations' answers, the stop token counted."""
        if "demonstrations" not in self.folders or self.candidate is None:
            return None
        renderer = load_renderer(self.folders[self.candidate])
        rows = itertools.islice(load_rows(self.folders["demonstrations"] / "train.jsonl"), RENDERED_ROWS)
        return max((sum(renderer.render(row["messages"]).assistant_mask) for row in rows), default=None)

    def findings(self, stage: str) -> list[dict[str, Any]]:
        """What the watchdog and the supervisor said while a stage trained."""
        return self._log(stage, "findings")

    def seconds_from(self, stage: str, times: float = 1.0) -> float | None:
        """What making this stage and all below it again would take, by what each took when it was made."""
        order = list(self.manifests)
        if stage not in order:
            return None
        below = [self.manifests[name].seconds for name in order[order.index(stage) :]]
        return round(times * below[0] + sum(below[1:]), 1)

    def seconds_of_items(self, suites: Collection[str]) -> float:
        """What the candidate's evaluation took for these suites' items; all it took, where that was not kept."""
        try:
            with parquet.ParquetFile(self.folders["evaluate"] / LOG_FOLDER / "items_seconds.parquet") as file:
                rows = file.read().to_pylist()
        except (KeyError, OSError, pyarrow.ArrowException):
            return self.manifests["evaluate"].seconds if "evaluate" in self.manifests else 0.0
        return float(sum(row["seconds"] for row in rows if row["suite"] in suites))

    def config(self, stage: str) -> Mapping[str, Any]:
        """What a stage was asked to do; also one that did not end, as its worker was told."""
        if stage in self.manifests:
            return self.manifests[stage].config
        if stage != self.ended_in or self.unsealed is None:
            return {}
        job = self.unsealed / LOG_FOLDER / "job.json"
        return dict(json.loads(job.read_bytes())["config"]) if job.exists() else {}

    def parameters(self, stage: str) -> int | None:
        """Weights that a stage trained; of a base that was not sealed, by its shape. None: not known."""
        if stage in self.manifests:
            found = self.manifests[stage].facts.get("parameters")
            return None if found is None else int(found)
        shape, words = self.config(stage).get("model", {}), self.manifests.get("tokenizer")
        if words is None or not shape or shape.get("family", "llama") != "llama":
            return None
        return ModelConfig.model_validate(shape).parameters(words.facts["vocab_size"])

    def source(self, stage: str) -> str:
        """An artifact as evidence names it."""
        return f"{stage} {self.manifests[stage].digest[:SHORT]}" if stage in self.manifests else stage

    def _log(self, stage: str, name: str) -> list[dict[str, Any]]:
        file = self.folders.get(stage, Path()) / LOG_FOLDER / f"{name}.jsonl"
        return list(load_rows(file)) if stage in self.folders and file.exists() else []


def _way_of_asking(report: Manifest) -> dict[str, Any]:
    """What an evaluation's answers depend on, beside the model and how many of the items it is asked."""
    return {name: value for name, value in report.config.items() if name != "items_per_suite"}


def failed(asked: Sequence[Asked]) -> list[Asked]:
    """Those answers that were measured and are wrong."""
    return [each for each in asked if each.item.score == 0]
