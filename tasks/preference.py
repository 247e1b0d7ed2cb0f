from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.stages import preference as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def align(session: Session, config: stage.PreferenceConfig, sft: Checkpoint, comparisons: Comparisons) -> Checkpoint:
    """The answering model taught what people prefer."""
    return run_stage(session, stage.align, config, sft, comparisons)
