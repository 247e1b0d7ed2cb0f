"""Settings that SFT and preference tuning share."""

import pytest

from lifecycle.errors import ConfigError
from lifecycle.stages.sft import SftConfig


def test_half_an_epoch_is_half_the_steps():
    assert SftConfig(epochs=0.5).steps(rows=640, batch=32) == 10
    assert SftConfig(epochs=0.001).steps(rows=640, batch=32) == 1


def test_the_rate_rises_in_the_warm_up_and_falls_to_its_final_share():
    config = SftConfig(learning_rate=1.0, warmup_share=0.4, final_learning_rate_share=0.1)
    rates = [config.rate(step, 10) for step in range(10)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[9] == pytest.approx(0.1)


def test_a_batch_is_shared_out_in_micro_batches():
    assert SftConfig().share_of_rank(32, 1) == (32, 1)
    assert SftConfig(micro_batch_rows=4).share_of_rank(32, 2) == (4, 4)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="expected a batch that divides evenly, found 32 rows a step on 3 ranks"):
        SftConfig().share_of_rank(32, 3)
