"""Raw text to token shards: `python -m flows.prepare_data`."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("prepare_data"))

from typing import NamedTuple

from prefect import flow

from lifecycle.artifacts import Checkpoint, Corpus, Suites, Tokenizer, TokenShards
from lifecycle.recipes import Pretraining
from tasks.base import adopt_base
from tasks.corpus import build_corpus
from tasks.session import Request, Session, working_on
from tasks.shards import pack_shards
from tasks.suites import collect_suites
from tasks.tokenizer import train_tokenizer

PREPARE_DATA = ("suites", "base", "corpus", "tokenizer", "shards")


class Text(NamedTuple):
    """What a base is pretrained on, with how."""

    corpus: Corpus
    tokenizer: Tokenizer
    shards: TokenShards
    settings: Pretraining


class Data(NamedTuple):
    """All that is there before training: an adopted base, text, or both."""

    suites: Suites
    base: Checkpoint | None
    text: Text | None


def prepare_data(run: Session) -> Data:
    """What is held out comes first: everything after it is cleaned of it. A stage the recipe leaves out is left out."""
    suites = collect_suites(run, run.recipe.suites)
    base = adopt_base(run, run.recipe.base) if run.recipe.base else None
    text = prepare_text(run, run.recipe.pretraining, suites, base) if run.recipe.pretraining else None
    return Data(suites, base, text)


def prepare_text(run: Session, settings: Pretraining, suites: Suites, base: Checkpoint | None) -> Text:
    """Raw text to training rows."""
    corpus = build_corpus(run, settings.corpus, suites)
    tokenizer = train_tokenizer(run, settings.tokenizer, corpus, base)
    shards = pack_shards(run, settings.shards, corpus, tokenizer)
    return Text(corpus, tokenizer, shards, settings)


@flow(name="prepare-data", persist_result=False)
def prepare_data_flow(request: Request) -> None:
    """Stop when the training rows are sealed."""
    with working_on(request, "prepare-data", PREPARE_DATA) as run:
        prepare_data(run)
