"""An SFT checkpoint learns which of two answers is better: direct preference optimisation against itself as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import SCRATCH_FOLDER
from lifecycle.training.post import PostTrainingConfig, Tuned

WORKER = "lifecycle.workers.preference"


class PreferenceConfig(PostTrainingConfig):
    """How preferences are learned. Too high a rate wins every pair and forgets the task: judge sampled answers."""

    stage: ClassVar[str] = "preference"
    method: Literal["dpo"] = Field("dpo", description="dpo: Rafailov et al. 2023, arxiv.org/abs/2305.18290, eq. 7.")
    beta: float = Field(0.1, gt=0, description="How dear it is to move away from the reference; higher moves less.")
    chosen_nll_weight: float = Field(
        0.0,
        ge=0,
        description="Of the chosen answer's mean -log p in the loss: keeps DPO from making right answers unlikely "
        "(Pang et al. 2024, arxiv.org/abs/2404.19733, eq. 1).",
    )
    batch_pairs: int = Field(16, ge=1, description="Pairs a step, over all processes; each is two sequences.")
    learning_rate: float = Field(8e-5, gt=0, description="The peak; 8e-5 suits 1M weights, 5e-7 suits 1B and more.")


class PreferenceJob(Job):
    """What `lifecycle.workers.preference` is handed. The reference is the SFT checkpoint it starts from."""

    config: PreferenceConfig
    sft: Path
    train_file: Path
    heldout_file: Path
    max_seq_len: int
    inputs: Mapping[str, str] = Field(default_factory=dict)
    """The inputs' digests, by name: a checkpoint made with others is not gone on from."""


def align(config: PreferenceConfig, sft: Checkpoint, comparisons: Comparisons, *, out_dir: Path) -> Checkpoint:
    """The SFT model after `epochs` passes over the comparisons. A killed run goes on, to the same bytes."""
    contracts.has_role(sft, "sft")
    job = PreferenceJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        sft=sft.path,
        train_file=comparisons.path / "train.jsonl",
        heldout_file=comparisons.path / "heldout.jsonl",
        max_seq_len=sft.max_seq_len,
        inputs={"sft": sft.digest, "comparisons": comparisons.digest},
    )
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads)
    return Checkpoint(
        path=out_dir,
        role="preference",
        max_seq_len=sft.max_seq_len,
        protocol_digest=sft.protocol_digest,
        **tuned.model_dump(exclude={"heldout"}),
    ).seal(config, sft, comparisons)
