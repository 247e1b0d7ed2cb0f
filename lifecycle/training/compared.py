"""What the stages that learn from comparisons have in common: what a worker is handed, and the checkpoint it leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.launch import Job
from lifecycle.sealing import SCRATCH_FOLDER, Artifact
from lifecycle.training.post import PostTrainingConfig, Tuned


class PairsConfig(PostTrainingConfig):
    """Settings of a stage whose batches are pairs."""

    batch_pairs: int = Field(16, ge=1, description="Pairs a step, over all processes; each is two sequences.")


class ComparedJob(Job):
    """What such a worker is handed. It starts from the SFT checkpoint."""

    config: PostTrainingConfig
    sft: Path
    train_file: Path
    heldout_file: Path
    max_seq_len: int
    inputs: Mapping[str, str] = Field(default_factory=dict)
    """The inputs' digests, by name: a checkpoint made with others is not gone on from."""


def handed(sft: Checkpoint, comparisons: Comparisons, out_dir: Path, **others: Artifact) -> dict[str, Any]:
    """The fields of a job but for its config; `others` are inputs beside the two."""
    inputs = {"sft": sft, "comparisons": comparisons, **others}
    return {
        "out_dir": out_dir,
        "scratch_dir": out_dir / SCRATCH_FOLDER,
        "sft": sft.path,
        "train_file": comparisons.path / "train.jsonl",
        "heldout_file": comparisons.path / "heldout.jsonl",
        "max_seq_len": sft.max_seq_len,
        "inputs": {name: made.digest for name, made in inputs.items()},
    }


def left(tuned: Tuned, role: Literal["preference", "reward"], sft: Checkpoint, out_dir: Path) -> Checkpoint:
    """The checkpoint a worker left in `out_dir`, to be sealed."""
    return Checkpoint(
        path=out_dir,
        role=role,
        max_seq_len=sft.max_seq_len,
        protocol_digest=sft.protocol_digest,
        **tuned.model_dump(exclude={"heldout"}),
    )
