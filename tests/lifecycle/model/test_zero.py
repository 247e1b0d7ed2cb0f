"""DeepSpeed's settings follow from ours."""

import pytest

from lifecycle.model.zero import ZeroConfig

BATCH = {"batch_rows": 32, "micro_batch_rows": 4, "ranks": 2, "clip": 1.0}


def test_micro_batches_are_accumulated_until_the_batch_is_whole():
    settings = ZeroConfig().deepspeed(precision="bf16", **BATCH)
    assert settings["gradient_accumulation_steps"] == 4  # 2 ranks x 4 rows x 4 = 32
    assert settings["torch_autocast"]["enabled"]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_is_accepted_by_deepspeed_itself(stage):
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    settings = ZeroConfig(stage=stage).deepspeed(precision="fp32", **BATCH)
    assert DeepSpeedZeroConfig(**settings["zero_optimization"]).stage == stage
    assert not settings["torch_autocast"]["enabled"]
