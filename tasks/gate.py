from contextlib import suppress

from prefect.artifacts import create_markdown_artifact

from lifecycle.artifacts import EvalReport, GateDecision
from lifecycle.report.decision import sentence
from lifecycle.stages import gate as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def decide_gate(
    session: Session,
    config: stage.GateConfig,
    report: EvalReport,
    live: EvalReport | None,
    earlier: GateDecision | None = None,
) -> GateDecision:
    """Whether this checkpoint may go live, and why. `earlier` is the look before, where there was one."""
    before = [artifact for artifact in (live, earlier) if artifact is not None]
    decision = run_stage(session, stage.decide_gate, config, report, *before)
    with suppress(Exception):  # a copy of the page that is sealed with the decision
        page = (decision.path / "decision.md").read_text(encoding="utf-8")
        create_markdown_artifact(page, key="gate-decision", description=sentence(decision))
    return decision
