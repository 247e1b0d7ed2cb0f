"""What a stage makes from another run's artifacts, and the result of the comparison in the Prefect UI."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from lifecycle import sealing
from lifecycle.report import ablation
from lifecycle.report.ablation import Attribution
from lifecycle.sealing import Artifact, StageConfig
from lifecycle.stages import (
    base,
    comparisons,
    corpus,
    demonstrations,
    preference,
    pretrain,
    reward,
    sft,
    shards,
    tokenizer,
)
from lifecycle.stages.online import OnlineConfig, align_online
from tasks import markdown
from tasks.adapter import run_stage, stage_task
from tasks.session import Session

STAGES: dict[str, Callable[..., Artifact]] = {
    "base": base.adopt_base,
    "corpus": corpus.build_corpus,
    "tokenizer": tokenizer.train_tokenizer,
    "shards": shards.pack_shards,
    "pretrain": pretrain.pretrain,
    "demonstrations": demonstrations.curate_demonstrations,
    "sft": sft.fine_tune,
    "comparisons": comparisons.curate_comparisons,
    "reward": reward.train_reward,
    "preference": preference.align,
}


@stage_task(retries=1)
def remake(session: Session, stage: str, config: StageConfig, inputs: Sequence[Artifact], label: str) -> Artifact:
    """The stage on inputs that no run of the recipe had."""
    made_by = align_online if isinstance(config, OnlineConfig) else STAGES[stage]
    return run_stage(session, made_by, config, *inputs, label=label)


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(session: Session, found: Attribution) -> None:
    """Table, page and picture beside the run's record; table and page in the Prefect UI."""
    folder = session.run.folder
    page = ablation.markdown(found)
    sealing.write_atomically(folder / "ablation.json", json.dumps(ablation.as_data(found), indent=1).encode())
    sealing.write_atomically(folder / "ablation.md", page.encode())
    if found.effects:
        sealing.write_atomically(folder / "ablation.svg", ablation.picture(found).encode())
    with suppress(Exception):  # the files are the record; this is their picture
        create_table_artifact(ablation.rows(found), key="ablation", description="; ".join(found.sentences))
        markdown.publish(page, key="ablation-page", description=f"{found.bad} against {found.good}")
