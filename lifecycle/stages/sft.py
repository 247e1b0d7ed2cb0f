"""A base checkpoint learns to answer: supervised fine-tuning on conversations, loss on the assistant's tokens only."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Demonstrations
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import SCRATCH_FOLDER
from lifecycle.training.post import PostTrainingConfig, Tuned

WORKER = "lifecycle.workers.sft"


class SftConfig(PostTrainingConfig):
    """How the base model is fine-tuned. Padding, masks and stop token are the protocol's, and no setting."""

    stage: ClassVar[str] = "sft"
    batch_rows: int = Field(32, ge=1, description="Conversations a step, over all processes.")
    learning_rate: float = Field(3e-3, gt=0, description="The peak; 3e-3 suits 1M weights, 2e-5 suits 1B.")


class SftJob(Job):
    """What `lifecycle.workers.sft` is handed."""

    config: SftConfig
    base: Path
    train_file: Path
    dev_file: Path
    max_seq_len: int


def fine_tune(config: SftConfig, base: Checkpoint, demonstrations: Demonstrations, *, out_dir: Path) -> Checkpoint:
    """The base model after `epochs` passes over the demonstrations. A killed run is made again, to the same bytes."""
    contracts.has_role(base, "base")
    job = SftJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        base=base.path,
        train_file=demonstrations.path / "train.jsonl",
        dev_file=demonstrations.path / "dev.jsonl",
        max_seq_len=base.max_seq_len,
    )
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads)
    return Checkpoint(
        path=out_dir,
        role="sft",
        max_seq_len=base.max_seq_len,
        protocol_digest=base.protocol_digest,
        **tuned.model_dump(exclude={"heldout"}),
    ).seal(config, base, demonstrations)
