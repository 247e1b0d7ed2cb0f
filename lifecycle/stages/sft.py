"""A base checkpoint learns to answer: supervised fine-tuning on conversations, loss on the assistant's tokens only."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Demonstrations
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import SCRATCH_FOLDER, how_it_ran, later_field
from lifecycle.training.post import EarlyStopping, PostTrainingConfig, Tuned

WORKER = "lifecycle.workers.sft"


class SftConfig(PostTrainingConfig):
    """How the base model is fine-tuned. Padding, masks and stop token are the protocol's, and no setting."""

    stage: ClassVar[str] = "sft"
    batch_rows: int = Field(32, ge=1, description="Conversations a step, over all processes.")
    learning_rate: float = Field(3e-3, gt=0, description="The peak; 3e-3 suits 1M weights, 2e-5 suits 1B.")
    too_long: Literal["drop", "cut"] = later_field(
        "drop",
        description="A conversation longer than max_seq_len is left out, or cut behind the last answer that fits, "
        "never inside one. Both are counted.",
    )
    early_stopping: EarlyStopping | None = later_field(None, description="None: `epochs` passes, and the last weights.")
    layout: Literal["padded", "packed", "padding_free"] = how_it_ran(
        "padded",
        description="How conversations lie in a batch: one a row; several a row of max_seq_len; all in one row. None "
        "sees another, and the loss is the same.",
    )


class SftJob(Job):
    """What `lifecycle.workers.sft` is handed."""

    config: SftConfig
    base: Path
    train_file: Path
    dev_file: Path
    max_seq_len: int
    inputs: Mapping[str, str] = Field(default_factory=dict)
    """The inputs' digests, by name: a checkpoint made with others is not gone on from."""


def fine_tune(config: SftConfig, base: Checkpoint, demonstrations: Demonstrations, *, out_dir: Path) -> Checkpoint:
    """The base model after `epochs` passes over the demonstrations. A killed run goes on, to the same bytes."""
    contracts.has_role(base, "base")
    job = SftJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        base=base.path,
        train_file=demonstrations.path / "train.jsonl",
        dev_file=demonstrations.path / "dev.jsonl",
        max_seq_len=base.max_seq_len,
        inputs={"base": base.digest, "demonstrations": demonstrations.digest},
    )
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads, on_accelerators=True)
    return Checkpoint(
        path=out_dir,
        role="sft",
        max_seq_len=base.max_seq_len,
        protocol_digest=base.protocol_digest,
        **tuned.model_dump(exclude={"heldout"}),
    ).seal(config, base, demonstrations)
