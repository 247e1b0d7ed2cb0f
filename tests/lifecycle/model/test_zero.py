"""DeepSpeed's settings follow from ours."""

import pytest
from pydantic import ValidationError

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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stage": 0, "offload_optimizer": True}, "with ZeRO 1, 2 or 3, found stage 0"),
        ({"stage": 2, "offload_parameters": True}, "with ZeRO 3, found stage 2"),
    ],
)
def test_what_is_not_cut_cannot_be_offloaded(settings, words):
    with pytest.raises(ValidationError, match=words):
        ZeroConfig(**settings)


def test_offloading_and_fp16_are_what_deepspeed_itself_reads():
    from deepspeed.runtime.config import DeepSpeedConfig

    zero = ZeroConfig(stage=3, offload_optimizer=True, offload_parameters=True)
    read = DeepSpeedConfig(zero.deepspeed(precision="fp16", **BATCH | {"ranks": 1}))
    assert read.zero_config.offload_optimizer.device == read.zero_config.offload_param.device == "cpu"
    assert (read.float16_config.enabled, read.float16_config.loss_scale) == (True, 0)  # 0: it adapts itself
    assert read.float16_config.initial_scale_power == 16
    assert not read.torch_autocast_enabled
