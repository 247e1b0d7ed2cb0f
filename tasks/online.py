from lifecycle.artifacts import Checkpoint, Comparisons, TokenShards
from lifecycle.stages import online as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def align_online(
    session: Session,
    config: stage.OnlineConfig,
    sft: Checkpoint,
    comparisons: Comparisons,
    reward: Checkpoint | None,
    shards: TokenShards | None,
) -> Checkpoint:
    """The answering model taught by scores of its own answers."""
    return run_stage(session, stage.align_online, config, sft, comparisons, reward, shards)
