"""A base checkpoint to one that answers as people prefer: `python -m flows.post_train`. What is sealed is reused."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("post_train"))

from typing import NamedTuple

from prefect import flow

from flows.prepare_data import PREPARE_DATA, Text, prepare_data
from flows.train_base import TRAIN_BASE, train_base
from lifecycle.artifacts import Checkpoint, Demonstrations, Suites
from lifecycle.stages.online import OnlineConfig
from tasks.comparisons import curate_comparisons
from tasks.demonstrations import curate_demonstrations
from tasks.online import align_online
from tasks.preference import align
from tasks.reward import train_reward
from tasks.session import Request, Session, working_on
from tasks.sft import fine_tune

POST_TRAIN = ("demonstrations", "sft", "comparisons", "reward", "preference")


class PostTrained(NamedTuple):
    """What may be released, and what it was shown."""

    candidate: Checkpoint
    demonstrations: Demonstrations


def post_train(run: Session, suites: Suites, base: Checkpoint, text: Text | None = None) -> PostTrained:
    """First shown how to answer, then, where the recipe says so, told which answers are better.

    Told by pairs, or by a judge of its own answers: a reward model trained on the pairs, or the contract.
    """
    demonstrations = curate_demonstrations(run, run.recipe.demonstrations, suites)
    sft = fine_tune(run, run.recipe.sft, base, demonstrations)
    if run.recipe.alignment is None:
        return PostTrained(sft, demonstrations)
    settings = run.recipe.alignment
    sampled_from = sft if settings.comparisons.sampled else None
    comparisons = curate_comparisons(run, settings.comparisons, suites, sampled_from)
    if not isinstance(settings.preference, OnlineConfig):
        return PostTrained(align(run, settings.preference, sft, comparisons), demonstrations)
    reward = train_reward(run, settings.reward, sft, comparisons) if settings.reward else None
    shards = text.shards if text and settings.preference.pretraining_weight else None
    return PostTrained(align_online(run, settings.preference, sft, comparisons, reward, shards), demonstrations)


@flow(name="post-train", persist_result=False)
def post_train_flow(request: Request) -> None:
    """Stop when the last checkpoint is sealed."""
    with working_on(request, "post-train", (*PREPARE_DATA, *TRAIN_BASE, *POST_TRAIN)) as run:
        data = prepare_data(run)
        post_train(run, data.suites, train_base(run, data), data.text)
