"""An SFT checkpoint becomes a judge: one number for an answer, higher where people would choose it."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.launch import run_worker
from lifecycle.training.compared import ComparedJob, PairsConfig, handed, left
from lifecycle.training.post import Tuned

WORKER = "lifecycle.workers.reward"


class RewardConfig(PairsConfig):
    """How a reward model is learned from pairs (Ouyang et al. 2022, eq. 1, https://arxiv.org/abs/2203.02155)."""

    stage: ClassVar[str] = "reward"
    learning_rate: float = Field(3e-4, gt=0, description="The peak; 3e-4 suits 1M weights, 9e-6 suits 6B.")
    mismatched_per_pair: int = Field(
        0,
        ge=0,
        description="Pairs added for each: its chosen answer over the most alike of other prompts' chosen answers. "
        "What no comparison shows, as an answer that is always right elsewhere, is otherwise free to be rewarded.",
    )
    centre_weight: float = Field(
        0.01,
        ge=0,
        description="Of the squared sum of a pair's rewards in the loss: only differences are learned, and without it "
        "their mean wanders (Eisenstein et al. 2023, arxiv.org/abs/2312.09244, eq. 2).",
    )

    @model_validator(mode="after")
    def _a_judge_is_held_whole(self) -> Self:
        if self.lora and self.lora.quantized_base:
            raise ValueError("a reward model is not trained on a base in 4 bits. Leave lora.quantized_base out.")
        return self


class RewardJob(ComparedJob):
    """What `lifecycle.workers.reward` is handed."""

    config: RewardConfig


def train_reward(config: RewardConfig, sft: Checkpoint, comparisons: Comparisons, *, out_dir: Path) -> Checkpoint:
    """The SFT model with one output, after `epochs` passes over the comparisons; `calibration.json` lies beside it.

    A killed run goes on, to the same bytes.
    """
    contracts.has_role(sft, "sft")
    job = RewardJob(config=config, **handed(sft, comparisons, out_dir))
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads, on_accelerators=True)
    return left(tuned, "reward", sft, out_dir).seal(config, sft, comparisons)
