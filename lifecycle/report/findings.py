"""What an evaluation found, gathered for people: every metric with its interval, opponent, baselines and rules.

All of it is read from sealed artifacts or computed again from the item records; nothing is measured here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lifecycle.artifacts import Check, EvalReport, GateDecision, Score, Suites
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.evidence import Evidence, difference
from lifecycle.evaluation.items import Item, read_items
from lifecycle.evaluation.metrics import measured
from lifecycle.report import answers, words
from lifecycle.report.words import Unit, unit_of

LIVE = "live"
CONFIDENCE = 0.95  # of differences when no gate says otherwise

Rule = Mapping[str, Any]
"""A rule of the gate's policy, as sealed with its decision."""


@dataclass(frozen=True)
class Difference:
    """Candidate minus live on one metric, with the interval the gate would use; `fault` says why there is none."""

    value: float | None
    low: float | None
    high: float | None
    fault: str | None


@dataclass(frozen=True)
class Line:
    """All that is known of one metric."""

    metric: str
    slice_of: str | None
    unit: Unit
    meaning: str
    score: Score
    live: Score | None
    difference: Difference | None
    baselines: Mapping[str, float]
    checks: Sequence[tuple[Rule, Check]]

    def check(self, *kinds: str) -> tuple[Rule, Check] | None:
        """The gate's rule of one of these kinds on it, with the verdict."""
        return next(((rule, check) for rule, check in self.checks if rule["kind"] in kinds), None)

    @property
    def label(self) -> str:
        return self.metric if self.slice_of is None else self.metric.removeprefix(f"{self.slice_of}.")


class Findings:
    """An evaluation report, what it is compared with, and what the gate made of it.

    `live` is what the gate compared it with, or any other report: then `opponent` is what that one is called.
    """

    def __init__(
        self,
        report: EvalReport,
        *,
        decision: GateDecision | None = None,
        live: EvalReport | None = None,
        suites: Suites | None = None,
        opponent: str = LIVE,
    ) -> None:
        self.report, self.decision, self.live, self.suites = report, decision, live, suites
        self.opponent = opponent
        self.comparable = live is None or live.suites_digest == report.suites_digest
        self.problems: list[str] = []
        self.records, self._evidence = self._read(report)
        self.live_records, self._live_evidence = self._read(live) if live and self.comparable else ({}, {})

    @property
    def rules(self) -> Sequence[Rule]:
        return self.decision.manifest.config.get("rules", ()) if self.decision else ()

    @property
    def confidence(self) -> float:
        return float(self.decision.manifest.config.get("confidence", CONFIDENCE)) if self.decision else CONFIDENCE

    @cached_property
    def checks(self) -> list[tuple[Rule, Check]]:
        """Every rule the gate applied, with what it found. Guards and targets wait while nothing is live."""
        asked = {(rule["metric"], rule["kind"]): rule for rule in self.rules}
        checks = self.decision.checks if self.decision else []
        return [(asked.get((c.metric, c.rule), {"kind": c.rule, "metric": c.metric}), c) for c in checks]

    @property
    def waiting(self) -> list[Rule]:
        """Rules of the policy that the gate could not apply, because nothing was live."""
        applied = [rule for rule, _ in self.checks]
        return [rule for rule in self.rules if rule not in applied]

    @cached_property
    def lines(self) -> dict[str, Line]:
        """Every metric of the report, in its order."""
        wholes = words.parents(self.report.scores)
        return {name: self._line(name, score, wholes.get(name)) for name, score in self.report.scores.items()}

    @property
    def wholes(self) -> list[Line]:
        return [line for line in self.lines.values() if line.slice_of is None]

    def slices(self, whole: str) -> list[Line]:
        return [line for line in self.lines.values() if line.slice_of == whole]

    @cached_property
    def calibrations(self) -> list[answers.Calibration]:
        return answers.calibrations(self.records)

    @cached_property
    def lengths(self) -> list[answers.Lengths]:
        return answers.all_lengths(self.records, self.live_records)

    @cached_property
    def paths(self) -> list[answers.Path]:
        return answers.paths(self.records)

    @cached_property
    def gaps(self) -> list[answers.Gap]:
        return answers.gaps(self.records)

    @cached_property
    def examples(self) -> list[answers.Examples]:
        return answers.examples(self.records, self.live_records, self._rows())

    def _read(self, report: EvalReport) -> tuple[dict[answers.Key, Item], dict[str, Evidence]]:
        """The records of a report and what they add up to; nothing, and a word on it, where they cannot be read."""
        try:
            records = {item.key: item for item in read_items(report.path)}
            return records, measured(records.values())
        except DamagedArtifact as error:
            self.problems.append(f"Item records could not be read, so there is nothing here but scores: {error}")
            return {}, {}

    def _line(self, metric: str, score: Score, slice_of: str | None) -> Line:
        return Line(
            metric=metric,
            slice_of=slice_of,
            unit=unit_of(metric, score),
            meaning=words.meaning(metric),
            score=score,
            live=self.live.scores.get(metric) if self.live and self.comparable else None,
            difference=self._difference(metric),
            baselines=words.baselines_of(metric, self.report.baselines, is_slice=slice_of is not None),
            checks=[(rule, check) for rule, check in self.checks if check.metric == metric],
        )

    def _difference(self, metric: str) -> Difference | None:
        ours, theirs = self._evidence.get(metric), self._live_evidence.get(metric)
        if ours is None or theirs is None or self.live is None:
            return None
        guard = next(
            (check for _, check in self.checks if check.metric == metric and check.difference is not None), None
        )
        if guard is not None and self.opponent == LIVE:  # its interval knows of looks taken before
            return Difference(guard.difference, guard.low, guard.high, None)
        found = difference(ours, theirs, same_model=self.live.checkpoint_digest == self.report.checkpoint_digest)
        if found.fault:
            return Difference(found.value, None, None, found.fault)
        low, high = found.interval(1 - self.confidence)
        return Difference(found.value, low, high, None)

    def _rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What was asked, by suite and item."""
        if self.suites is None or not self.records:
            return {}
        files = {suite: self.suites.file_of(suite) for suite in self.suites.items}
        return {(suite, row["id"]): row for suite, file in files.items() for row in load_rows(file)}
