"""DeepSpeed's settings: what is spread over the ranks, and in which precision they compute."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "bf16"]


class ZeroConfig(BaseModel):
    """What the ranks share out. Rajbhandari et al. 2020, section 5, https://arxiv.org/abs/1910.02054"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: Literal[0, 1, 2, 3] = Field(
        1, description="0 nothing, 1 optimizer state, 2 and gradients, 3 and parameters. All give the same numbers."
    )
    bucket_elements: int = Field(
        50_000_000, ge=1, description="Numbers reduced or gathered at once; larger is fewer messages and more memory."
    )
    offload_optimizer: bool = Field(False, description="Keep optimizer state in host memory, and step there.")

    def deepspeed(
        self, *, batch_rows: int, micro_batch_rows: int, ranks: int, precision: Precision, clip: float
    ) -> dict[str, Any]:
        """What `deepspeed.initialize` reads. `batch_rows` is over all ranks, `micro_batch_rows` of one.

        bf16 is autocast over fp32 weights: the optimizer sees full precision, and no loss scale is needed. Gradients
        stay fp32 on the wire (an empty list of modules that may be reduced in bf16): summing thousands of ranks in
        8 bits of mantissa loses small gradients.
        """
        zero: dict[str, Any] = {
            "stage": self.stage,
            "reduce_bucket_size": self.bucket_elements,
            "allgather_bucket_size": self.bucket_elements,
            "overlap_comm": False,  # gloo has no second stream, and NCCL's order then stays the same from run to run
        }
        if self.offload_optimizer:
            zero["offload_optimizer"] = {"device": "cpu"}
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
            "steps_per_print": 2**31 - 1,  # metrics.jsonl says it
        }
