"""Raw text to token shards: `python -m flows.prepare_data`."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("prepare_data"))

from prefect import flow

from lifecycle.artifacts import Corpus, Suites, Tokenizer, TokenShards
from tasks.corpus import build_corpus
from tasks.session import Request, Session, working_on
from tasks.shards import pack_shards
from tasks.suites import collect_suites
from tasks.tokenizer import train_tokenizer

PREPARE_DATA = ("suites", "corpus", "tokenizer", "shards")


def prepare_data(run: Session) -> tuple[Suites, Corpus, Tokenizer, TokenShards]:
    """What is held out comes first: everything after it is cleaned of it."""
    suites = collect_suites(run, run.recipe.suites)
    corpus = build_corpus(run, run.recipe.corpus, suites)
    tokenizer = train_tokenizer(run, run.recipe.tokenizer, corpus)
    shards = pack_shards(run, run.recipe.shards, corpus, tokenizer)
    return suites, corpus, tokenizer, shards


@flow(name="prepare-data", persist_result=False)
def prepare_data_flow(request: Request) -> None:
    """Stop when the training rows are sealed."""
    with working_on(request, "prepare-data", PREPARE_DATA) as run:
        prepare_data(run)
