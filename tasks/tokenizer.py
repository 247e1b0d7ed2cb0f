from lifecycle.artifacts import Corpus, Tokenizer
from lifecycle.stages import tokenizer as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def train_tokenizer(
    session: Session, config: stage.TokenizerConfig | stage.AdoptTokenizerConfig, corpus: Corpus
) -> Tokenizer:
    """A tokenizer with the chat template bound to it."""
    return run_stage(session, stage.train_tokenizer, config, corpus)
