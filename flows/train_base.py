"""Raw text to a base checkpoint: `python -m flows.train_base`. Data that is sealed already is reused."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("train_base"))

from prefect import flow

from flows.prepare_data import PREPARE_DATA, prepare_data
from lifecycle.artifacts import Checkpoint, Tokenizer, TokenShards
from tasks.pretrain import pretrain
from tasks.session import Request, Session, working_on

TRAIN_BASE = ("pretrain",)


def train_base(run: Session, tokenizer: Tokenizer, shards: TokenShards) -> Checkpoint:
    """The base model."""
    return pretrain(run, run.recipe.pretrain, shards, tokenizer)


@flow(name="train-base", persist_result=False)
def train_base_flow(request: Request) -> None:
    """Stop when the base checkpoint is sealed."""
    with working_on(request, "train-base", (*PREPARE_DATA, *TRAIN_BASE)) as run:
        _, _, tokenizer, shards = prepare_data(run)
        train_base(run, tokenizer, shards)
