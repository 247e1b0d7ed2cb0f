from lifecycle.artifacts import Corpus, Suites
from lifecycle.stages import corpus as stage
from tasks.adapter import run_stage, stage_task
from tasks.data_card import publish_data_card
from tasks.session import Session


@stage_task()
def build_corpus(session: Session, config: stage.CorpusConfig, suites: Suites) -> Corpus:
    """Clean text with every held-out item removed."""
    corpus = run_stage(session, stage.build_corpus, config, suites)
    publish_data_card(session)
    return corpus
