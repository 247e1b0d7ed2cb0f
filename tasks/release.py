from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision, Release
from lifecycle.stages import release as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def release(
    session: Session, config: stage.ReleaseConfig, checkpoint: Checkpoint, decision: GateDecision, report: EvalReport
) -> Release:
    """The folder users load, with its lineage. Not live yet: promotion is a step of its own."""
    return run_stage(session, stage.release, config, checkpoint, decision, report)
