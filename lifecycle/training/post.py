"""What the two stages after pretraining have in common: their shared settings, and what their workers report back."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.errors import ConfigError
from lifecycle.sealing import StageConfig, how_it_ran
from lifecycle.training.schedule import Schedule, learning_rate


class Lora(BaseModel):
    """Train low-rank updates of every linear layer, merged at the end (Hu et al. 2021, arxiv.org/abs/2106.09685)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1)


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
    recompute_activations: bool = how_it_ran(False, description="Less memory for a third more time.")
    ranks: int | None = how_it_ran(None, ge=1, description="Processes, one a GPU; default: one, and no launcher.")
    threads: int | None = how_it_ran(None, ge=1, description="Of each rank; default: cores shared out.")
    log_every_steps: int = how_it_ran(10, ge=1)

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
    dropped: dict[str, int] = Field(description="Training rows left out, by reason.")
    heldout: dict[str, float] = Field(description="Measured at the end, on rows held out from training.")
