"""Raw text to a base checkpoint: `python -m flows.train_base`. Data that is sealed already is reused."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("train_base"))

from prefect import flow

from flows.prepare_data import PREPARE_DATA, Data, prepare_data
from lifecycle.artifacts import Checkpoint
from tasks.pretrain import pretrain
from tasks.session import Request, Session, working_on

TRAIN_BASE = ("pretrain",)


def train_base(run: Session, data: Data) -> Checkpoint:
    """The base model: trained on text, from fresh weights or an adopted base's; or as it was adopted."""
    if data.text is not None:
        return pretrain(run, data.text.settings.pretrain, data.text.shards, data.text.tokenizer, data.base)
    assert data.base is not None, "a recipe has a base or trains one"
    return data.base


@flow(name="train-base", persist_result=False)
def train_base_flow(request: Request) -> None:
    """Stop when the base checkpoint is sealed."""
    with working_on(request, "train-base", (*PREPARE_DATA, *TRAIN_BASE)) as run:
        train_base(run, prepare_data(run))
