"""DeepSpeed's settings: what is spread over the ranks, and in which precision they compute."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


FP16 = {"enabled": True, "loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000, "min_loss_scale": 1}
"""A loss scale that halves with every overflow and doubles after 1,000 steps without one
(Micikevicius et al. 2018, section 3.2, https://arxiv.org/abs/1710.03740)."""


def stages_for(precision: Precision, *, compiled: bool) -> tuple[int, ...]:
    """The stages that `ZeroConfig.must_suit` lets through on GPUs."""
    return tuple(range(1 if precision == "fp16" else 0, 3 if compiled else 4))


class ZeroConfig(BaseModel):
    """What the ranks share out. Rajbhandari et al. 2020, section 5, https://arxiv.org/abs/1910.02054"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: Literal[0, 1, 2, 3] = Field(
        1, description="0 nothing, 1 optimizer state, 2 and gradients, 3 and parameters. All give the same numbers."
    )
    bucket_elements: int = Field(
        50_000_000, ge=1, description="Numbers reduced or gathered at once; larger is fewer messages and more memory."
    )
    offload_optimizer: bool = Field(
        False, description="Keep optimizer state in host memory, and step there; ZeRO 1 to 3 (Ren et al. 2021)."
    )
    offload_parameters: bool = Field(
        False, description="Keep parameters in host memory until a layer needs them; ZeRO 3 (Rajbhandari et al. 2021)."
    )

    @model_validator(mode="after")
    def _offload_what_is_cut(self) -> Self:
        if self.offload_optimizer and self.stage == 0:
            raise ValueError("expected offload_optimizer with ZeRO 1, 2 or 3, found stage 0. Set stage=1.")
        if self.offload_parameters and self.stage != 3:
            raise ValueError(f"expected offload_parameters with ZeRO 3, found stage {self.stage}. Set stage=3.")
        return self

    def must_suit(self, precision: Precision, *, compiled: bool, on_gpus: bool) -> None:
        """Raise ConfigError where this stage cannot compute so, or this device not in this precision."""
        if compiled and self.stage == 3:
            raise ConfigError(
                "expected pretrain.compile with ZeRO 0, 1 or 2, found stage 3, which fetches parameters while a layer "
                "runs: a compiled one would not wait for them. Use another stage, or compile=False."
            )
        if precision == "fp16" and (not on_gpus or self.stage == 0):
            raise ConfigError(
                "expected pretrain.precision=fp16 on GPUs and with ZeRO 1, 2 or 3, which keep the weights in fp32 "
                f"beside it, found {'cuda' if on_gpus else 'cpu'} and stage {self.stage}. Use bf16, or fp32."
            )

    def deepspeed(
        self, *, batch_rows: int, micro_batch_rows: int, ranks: int, precision: Precision, clip: float
    ) -> dict[str, Any]:
        """What `deepspeed.initialize` reads. `batch_rows` is over all ranks, `micro_batch_rows` of one.

        bf16 is autocast over fp32 weights: the optimizer sees full precision, and no loss scale is needed. Gradients
        stay fp32 on the wire (an empty list of modules that may be reduced in bf16): summing thousands of ranks in
        8 bits of mantissa loses small gradients.

        fp16 is DeepSpeed's own: weights in fp16 beside fp32 ones that the optimizer steps, a loss scale, and all ranks
        together skip a step whose gradient overflowed. Its autocast to fp16 lets each rank decide for itself.
        """
        zero: dict[str, Any] = {
            "stage": self.stage,
            "reduce_bucket_size": self.bucket_elements,
            "allgather_bucket_size": self.bucket_elements,
            "overlap_comm": False,  # gloo has no second stream, and NCCL's order then stays the same from run to run
        }
        if self.offload_optimizer:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if self.offload_parameters:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        return {
            "train_batch_size": batch_rows,
            "train_micro_batch_size_per_gpu": micro_batch_rows,
            "gradient_accumulation_steps": batch_rows // (micro_batch_rows * ranks),
            "gradient_clipping": clip,
            "zero_optimization": zero,
            "torch_autocast": {
                "enabled": precision == "bf16",
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],
            },
            # We bring torch's fused AdamW: the Adams of DeepSpeed are compiled when first used.
            "zero_force_ds_cpu_optimizer": False,
            **({"fp16": FP16} if precision == "fp16" else {}),
            "steps_per_print": 2**31 - 1,  # metrics.jsonl says it
        }
