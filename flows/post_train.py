"""A base checkpoint to one that answers as people prefer: `python -m flows.post_train`. What is sealed is reused."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("post_train"))

from prefect import flow

from flows.prepare_data import PREPARE_DATA, prepare_data
from flows.train_base import TRAIN_BASE, train_base
from lifecycle.artifacts import Checkpoint, Suites
from tasks.comparisons import curate_comparisons
from tasks.demonstrations import curate_demonstrations
from tasks.preference import align
from tasks.session import Request, Session, working_on
from tasks.sft import fine_tune

POST_TRAIN = ("demonstrations", "sft", "comparisons", "preference")


def post_train(run: Session, suites: Suites, base: Checkpoint) -> Checkpoint:
    """First shown how to answer, then told which answers are better."""
    demonstrations = curate_demonstrations(run, run.recipe.demonstrations, suites)
    sft = fine_tune(run, run.recipe.sft, base, demonstrations)
    comparisons = curate_comparisons(run, run.recipe.comparisons, suites)
    return align(run, run.recipe.preference, sft, comparisons)


@flow(name="post-train", persist_result=False)
def post_train_flow(request: Request) -> None:
    """Stop when the preference checkpoint is sealed."""
    with working_on(request, "post-train", (*PREPARE_DATA, *TRAIN_BASE, *POST_TRAIN)) as run:
        suites, _, tokenizer, shards = prepare_data(run)
        post_train(run, suites, train_base(run, tokenizer, shards))
