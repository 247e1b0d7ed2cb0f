"""A run's evaluation, found in the store and written down: `evaluation.html` beside the run's record."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.artifacts import EvalReport, GateDecision, Suites
from lifecycle.errors import InputError
from lifecycle.report import page
from lifecycle.report.findings import LIVE, Findings
from lifecycle.runs import Run, StageRecord
from lifecycle.sealing import write_atomically


def findings_of(run: Run, against: Run | None = None) -> Findings:
    """What a run's evaluation found, compared with what its gate compared it with, or with another run's evaluation.

    Every file is verified as it is read: a page must not show what was changed after it was sealed.
    """
    stages = run.stages
    decisions = [stage for stage in stages if stage.kind == "GateDecision"]
    decision = GateDecision.load(Path(decisions[-1].path)) if decisions else None
    reports = {stage.digest: stage for stage in stages if stage.kind == "EvalReport"}
    report = EvalReport.load(Path(_candidate(run, reports, decision).path))
    suites = [Suites.load(Path(stage.path)) for stage in stages if stage.kind == "Suites"]
    live, opponent = None, LIVE
    if against is not None:
        live, opponent = findings_of(against).report, against.name
    elif decision is not None:
        compared = [entry.digest for entry in decision.manifest.inputs if entry.digest in reports]
        others = [digest for digest in compared if digest != decision.report_digest]
        live = EvalReport.load(Path(reports[others[0]].path)) if others else None
    return Findings(report, decision=decision, live=live, suites=suites[-1] if suites else None, opponent=opponent)


def write_report(run: Run, against: Run | None = None, *, to: Path | None = None) -> Path:
    """Write the page of a run's evaluation and say where it is."""
    path = to or run.evaluation_page
    write_page(findings_of(run, against), run, path)
    return path


def write_page(findings: Findings, run: Run, path: Path) -> None:
    """Write the page of these findings, by rename: a reader sees the old page or the new one."""
    record = run.record
    day = datetime.fromtimestamp(record.started, UTC)
    about = " · ".join(filter(None, [record.recipe.rpartition("/")[2], *record.settings, f"{day:%-d %B %Y}", run.name]))
    arguments = ["report", "evaluation", run.name] + (
        ["--against", findings.opponent] if findings.opponent != LIVE else []
    )
    command = f"python -m lifecycle {shlex.join(arguments)}"
    written = page.html(findings, name=run.name, about=about, command=command)
    write_atomically(path, written.encode())


def _candidate(run: Run, reports: dict[str, StageRecord], decision: GateDecision | None) -> StageRecord:
    """The report the gate decided on, or without a decision the first one made."""
    if decision is not None and decision.report_digest in reports:
        return reports[decision.report_digest]
    if not reports:
        raise InputError(
            f"expected an evaluation in run {run.name}, found none: it ended before. `python -m lifecycle show "
            f"{run.name}` lists its stages; --against and RUN take a run that was evaluated."
        )
    return next(iter(reports.values()))
