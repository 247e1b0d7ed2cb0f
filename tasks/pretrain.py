from lifecycle.artifacts import Checkpoint, Tokenizer, TokenShards
from lifecycle.stages import pretrain as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def pretrain(
    session: Session,
    config: stage.PretrainConfig,
    shards: TokenShards,
    tokenizer: Tokenizer,
    base: Checkpoint | None = None,
) -> Checkpoint:
    """The base model, from scratch or from an adopted one. A retry goes on from the last verified checkpoint."""
    return run_stage(session, stage.pretrain, config, shards, tokenizer, base)
