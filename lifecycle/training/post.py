"""What the two stages after pretraining have in common: their shared settings, and what their workers report back."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle.errors import ConfigError
from lifecycle.sealing import StageConfig, how_it_ran, later_field
from lifecycle.training.schedule import Schedule, learning_rate


class Lora(BaseModel):
    """Train low-rank updates of every linear layer, merged at the end (Hu et al. 2021, arxiv.org/abs/2106.09685)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1)
    dora: bool = later_field(
        False,
        description="Learn a weight's length and direction apart (DoRA, Liu et al. 2024, arxiv.org/abs/2402.09353).",
    )
    quantized_base: Literal["nf4"] | None = later_field(
        None,
        description="Hold the base in 4 bits while the update is learned (QLoRA, Dettmers et al. 2023, "
        "arxiv.org/abs/2305.14314). Needs bitsandbytes.",
    )


class EarlyStopping(BaseModel):
    """End when held-out rows no longer get better, and keep the weights that were best on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: Literal["loss", "contract"] = Field(
        "loss", description="contract: share of answers, decoded greedily, that the evaluation's own check calls right."
    )
    every_steps: int = Field(ge=1, description="How often it is measured.")
    patience: int = Field(3, ge=1, description="So many measurements in a row without a better one end the training.")
    rows: int | None = Field(None, ge=1, description="Only the first so many held-out rows; None: all.")


class PostTrainingConfig(StageConfig):
    """Settings of every stage that goes on training a checkpoint on conversations."""

    epochs: float = Field(1.0, gt=0, description="Passes over the training rows; 1.5 is one and a half.")
    schedule: Schedule = "linear"
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    final_learning_rate_share: float = Field(0.0, ge=0, le=1, description="Of the peak, at the last step.")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of AdamW.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient of the whole batch.")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16: autocast, with fp32 weights.")
    learning_rate: float = Field(gt=0, description="The peak, after warm-up.")
    lora: Lora | None = Field(None, description="None trains every weight.")
    max_dropped_share: float = Field(0.01, ge=0, le=1, description="More rows too long for the model refuse the stage.")
    seed: int = Field(0, ge=0, description="Names the order of the rows and every other draw.")
    micro_batch_rows: int | None = how_it_ran(
        None, ge=1, description="Rows a process holds at once; None: all of its share."
    )
    attention: Literal["auto", "eager", "sdpa"] = how_it_ran(
        "auto", description="auto: eager on a CPU, where it is faster on short rows, else sdpa."
    )
    zero: Literal[0, 2] = how_it_ran(
        0, description="2: ranks share out gradients and optimizer state, with DeepSpeed. Both give the same numbers."
    )
    save_every_steps: int = how_it_ran(200, ge=1, description="A run that was killed goes on from the last one.")
    keep_checkpoints: int = how_it_ran(2, ge=1)
    reshard: bool = how_it_ran(False, description="Go on from a checkpoint of other ranks, micro batches or layout.")
    recompute_activations: bool = how_it_ran(False, description="Less memory for a third more time.")
    ranks: int | None = how_it_ran(None, ge=1, description="Processes, one a GPU; default: one, and no launcher.")
    threads: int | None = how_it_ran(None, ge=1, description="Of each rank; default: cores shared out.")
    log_every_steps: int = how_it_ran(10, ge=1)

    @model_validator(mode="after")
    def _shares_with_somebody(self) -> Self:
        if self.zero and self.ranks is None:
            raise ValueError("zero=2 shares state out among ranks, found none. Set ranks, or leave zero at 0.")
        return self

    def steps(self, rows: int, batch: int) -> int:
        """Steps that `epochs` passes over `rows` take, to the nearest."""
        return max(1, round(self.epochs * rows / batch))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(
            step,
            steps=steps,
            peak=self.learning_rate,
            warmup_steps=round(self.warmup_share * steps),
            schedule=self.schedule,
            final_share=self.final_learning_rate_share,
        )

    def share_of_rank(self, batch: int, ranks: int) -> tuple[int, int]:
        """Rows a process takes at once, and how often before a step, so that a step sees exactly `batch` rows."""
        rows = batch // ranks
        micro = min(self.micro_batch_rows or rows, rows)
        if rows * ranks != batch or rows % micro:
            from_ = f"{batch} rows a step on {ranks} ranks, {micro} rows at once"
            raise ConfigError(f"expected a batch that divides evenly, found {from_}. Change one so that it does.")
        return micro, rows // micro


class Tuned(BaseModel):
    """What a worker reports: the facts of the checkpoint it left, and what it measured on rows it did not train on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    parameters: int
    steps: int
    tokens_seen: int = Field(description="Tokens that went through the model in training, padding not counted.")
    final_loss: float = Field(description="Mean loss of the last tenth of the steps.")
    supervised_share: float = Field(description="Share of those tokens that the loss covered.")
    supervised_shares: dict[str, float] = Field({}, description="The same of each source, where there are several.")
    cut_rows: int = Field(0, description="Training rows cut behind an answer, so that they fit.")
    dropped: dict[str, int] = Field(description="Training rows left out, by reason.")
    heldout: dict[str, float] = Field(description="Measured at the end, on rows held out from training.")
    drift: dict[str, float] = Field({}, description="How far it moved from its reference, at the end, where watched.")
    findings: dict[str, int] = Field({}, description="Rules of drift that ended the training, by name.")
