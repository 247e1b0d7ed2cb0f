from lifecycle.artifacts import Corpus, Tokenizer, TokenShards
from lifecycle.stages import shards as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def pack_shards(session: Session, config: stage.ShardsConfig, corpus: Corpus, tokenizer: Tokenizer) -> TokenShards:
    """Training rows of equal length."""
    return run_stage(session, stage.pack_shards, config, corpus, tokenizer)
