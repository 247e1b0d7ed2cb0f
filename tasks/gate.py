from contextlib import suppress

from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision
from lifecycle.report.decision import sentence
from lifecycle.stages import gate as stage
from tasks import markdown
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def decide_gate(
    session: Session,
    config: stage.GateConfig,
    report: EvalReport,
    live: EvalReport | None,
    earlier: GateDecision | None = None,
    baseline: Checkpoint | None = None,
) -> GateDecision:
    """Whether this checkpoint may go live, and why. `earlier` is the look before, where there was one; `baseline` the
    adopted base, where `live` reports on it and not on a release."""
    decision = run_stage(session, stage.decide_gate, config, report, live, earlier, baseline)
    with suppress(Exception):  # a copy of the page that is sealed with the decision
        page = (decision.path / "decision.md").read_text(encoding="utf-8")
        markdown.publish(page, key="gate-decision", description=sentence(decision))
    return decision
