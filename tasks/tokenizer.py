from lifecycle.artifacts import Checkpoint, Corpus, Tokenizer
from lifecycle.stages import tokenizer as stage
from tasks.adapter import run_stage, stage_task
from tasks.data_card import publish_data_card
from tasks.session import Session


@stage_task()
def train_tokenizer(
    session: Session,
    config: stage.TokenizerConfig | stage.AdoptTokenizerConfig | stage.BaseTokenizerConfig,
    corpus: Corpus,
    base: Checkpoint | None = None,
) -> Tokenizer:
    """A tokenizer with the chat template bound to it."""
    tokenizer = run_stage(session, stage.train_tokenizer, config, corpus, base)
    publish_data_card(session)
    return tokenizer
