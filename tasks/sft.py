from lifecycle.artifacts import Checkpoint, Demonstrations
from lifecycle.stages import sft as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def fine_tune(
    session: Session, config: stage.SftConfig, base: Checkpoint, demonstrations: Demonstrations
) -> Checkpoint:
    """The base model taught to answer."""
    return run_stage(session, stage.fine_tune, config, base, demonstrations)
