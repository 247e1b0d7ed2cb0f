from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.stages import reward as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def train_reward(session: Session, config: stage.RewardConfig, sft: Checkpoint, comparisons: Comparisons) -> Checkpoint:
    """The answering model taught to judge answers."""
    return run_stage(session, stage.train_reward, config, sft, comparisons)
