"""An SFT checkpoint learns from scores of its own answers: PPO as InstructGPT has it, or RLOO or GRPO."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Comparisons, TokenShards
from lifecycle.chat import golden
from lifecycle.errors import ContractError
from lifecycle.launch import run_worker
from lifecycle.sealing import Artifact, how_it_ran
from lifecycle.training.compared import ComparedJob, handed, left
from lifecycle.training.drift import DriftPolicy
from lifecycle.training.post import PostTrainingConfig, Tuned

WORKER = "lifecycle.workers.online"


class OnlineConfig(PostTrainingConfig):
    """How a policy learns from scores of answers it samples to the prompts of the comparisons."""

    stage: ClassVar[str] = "preference"
    method: Literal["ppo", "rloo", "grpo"] = Field(
        description="ppo: Ouyang et al. 2022, arxiv.org/abs/2203.02155, section 3.5. rloo: Ahmadian et al. 2024, "
        "arxiv.org/abs/2402.14740. grpo: Shao et al. 2024, arxiv.org/abs/2402.03300."
    )
    reward_source: Literal["model", "contract"] = Field(
        description="model: the recipe's reward model. contract: 1 for an answer that is exactly the right one, as the "
        "evaluation grades it, else 0."
    )
    batch_prompts: int = Field(32, ge=1, description="Prompts a step, over all processes.")
    answers_per_prompt: int = Field(4, ge=1, description="Samples of each; rloo and grpo compare these, so 2 or more.")
    max_new_tokens: int = Field(32, ge=1, description="An answer that has not stopped by then is unfinished.")
    unfinished_score: float = Field(-1.0, description="Of an answer without a stop token, whatever it says.")
    passes: int = Field(2, ge=1, description="Over the sampled answers, before new ones are drawn.")
    minibatch_answers: int = Field(64, ge=1, description="Answers an optimizer step, over all processes.")
    clip_ratio: float = Field(0.2, gt=0, lt=1, description="How far a pass may move a token's probability ratio.")
    kl_coefficient: float = Field(0.05, ge=0, description="Reward lost for a nat of distance from the SFT model.")
    kl_target: float | None = Field(
        None, gt=0, description="Nats an answer: the coefficient is adapted to keep this (Ziegler et al. 2019)."
    )
    entropy_weight: float = Field(0.0, ge=0, description="Of a token's entropy, as a bonus.")
    discount: float = Field(1.0, gt=0, le=1, description="PPO: gamma.")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="PPO: lambda of generalized advantages.")
    value_clip: float = Field(0.2, gt=0, description="PPO: how far a pass may move a value without its loss falling.")
    value_learning_rate: float = Field(3e-4, gt=0, description="PPO: peak for the critic, a network of its own.")
    pretraining_weight: float = Field(
        0.0, ge=0, description="Of the loss on pretraining text beside the policy's (PPO-ptx); needs the recipe's text."
    )
    pretraining_rows: int = Field(8, ge=1, description="Rows of that text an optimizer step, over all processes.")
    learning_rate: float = Field(1e-4, gt=0, description="The peak; 1e-4 suits 1M weights, 1e-6 suits 1B and more.")
    epochs: float = Field(2.0, gt=0, description="Passes over the prompts.")
    precision: Literal["fp32"] = Field(
        "fp32", description="Answers are drawn in fp32: in bf16 the policy that learns would not be the one that spoke."
    )
    drift: DriftPolicy | None = Field(
        None, description="What is watched while training, and what ends it; None: only held-out prompts, at the end."
    )
    log_every_steps: int = how_it_ran(1, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        answers = self.batch_prompts * self.answers_per_prompt
        if answers % self.minibatch_answers:
            raise ValueError(
                f"expected batch_prompts x answers_per_prompt to be a multiple of minibatch_answers, found {answers} "
                f"and {self.minibatch_answers}"
            )
        if (self.ranks or 1) > self.batch_prompts:
            raise ValueError(f"expected a prompt a step for each rank, found {self.batch_prompts} for {self.ranks}")
        if self.method != "ppo" and self.answers_per_prompt < 2:
            raise ValueError(f"{self.method} compares answers to one prompt: set answers_per_prompt=2 or more")
        if self.lora and (self.lora.quantized_base or self.lora.dora or self.lora.dropout):
            raise ValueError(
                "expected plain LoRA, so that the policy that learns is the one that spoke; leave quantized_base, dora "
                "and dropout out"
            )
        return self

    @property
    def updates_per_step(self) -> int:
        """Optimizer steps between two samplings."""
        return self.passes * self.batch_prompts * self.answers_per_prompt // self.minibatch_answers


class OnlineJob(ComparedJob):
    """What `lifecycle.workers.online` is handed. The reference is the SFT checkpoint it starts from."""

    config: OnlineConfig
    reward: Path | None
    shards: Path | None


def align_online(
    config: OnlineConfig,
    sft: Checkpoint,
    comparisons: Comparisons,
    reward: Checkpoint | None = None,
    shards: TokenShards | None = None,
    *,
    out_dir: Path,
) -> Checkpoint:
    """The SFT model after `epochs` passes over the prompts. A killed run goes on, to the same bytes."""
    contracts.has_role(sft, "sft")
    needs = {
        "reward": (config.reward_source == "model", reward, "a reward model (reward_source=model)"),
        "shards": (config.pretraining_weight > 0, shards, "pretraining text (pretraining_weight above 0)"),
    }
    for is_needed, given, name in needs.values():
        if is_needed != (given is not None):
            raise ContractError(f"expected {name} exactly where it is used, found {'none' if is_needed else 'one'}.")
    if reward is not None:
        contracts.has_role(reward, "reward")
        golden.speak_alike(sft, reward)
    if shards is not None:
        golden.speak_alike(shards, sft)
    beside = {"reward": reward, "shards": shards}
    others: dict[str, Artifact] = {name: made for name, made in beside.items() if made is not None}
    job = OnlineJob(
        config=config,
        reward=reward and reward.path,
        shards=shards and shards.path,
        **handed(sft, comparisons, out_dir, **others),
    )
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads, on_accelerators=True)
    return left(tuned, "preference", sft, out_dir).seal(config, sft, comparisons, *others.values())
