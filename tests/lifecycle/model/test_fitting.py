"""What fits, in which order, and the refusal of what cannot."""

from dataclasses import replace

import pytest

from lifecycle.errors import ConfigError
from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.fitting import GIB, must_fit, options, size_of
from lifecycle.model.states import Run
from lifecycle.model.zero import ZeroConfig

MODEL = ModelConfig(hidden_size=2048, layers=24, heads=16, kv_heads=16, intermediate_size=5504)


def run(ranks: int = 8) -> Run:
    work = Work(MODEL, rows=32, tokens=2047, precision="bf16", attention="sdpa")
    return Run(work=work, vocab_size=32_000, zero=ZeroConfig(stage=0), ranks=ranks)


def test_sizes_are_read_with_their_units():
    assert size_of("80GiB") == 80 * 2**30
    assert size_of("80 GB") == 80 * 10**9
    assert size_of("1.5MiB") == 1.5 * 2**20
    with pytest.raises(ConfigError, match="80GiB or 80GB, found 'a lot'"):
        size_of("a lot")


def test_every_stage_checkpointing_choice_and_micro_batch_is_looked_at_once():
    found = options(run(), available=80 * GIB)
    assert len(found) == 4 * 2 * 6  # 32 rows divide into 1, 2, 4, 8, 16, 32
    assert len({option.name for option in found}) == len(found)
    assert all(option.run.work.rows * option.run.accumulation == 32 for option in found)


def test_what_fits_comes_first_and_the_fastest_of_it_before_the_rest():
    found = options(run(), available=80 * GIB)
    fits = [option.fits for option in found]
    assert fits == sorted(fits, reverse=True)
    seconds = [option.seconds for option in found if option.fits]
    assert seconds == sorted(seconds)
    assert not found[0].run.checkpointing  # it would fit with recomputing too, in a third more time


def test_a_smaller_device_never_has_a_faster_plan():
    best = [options(run(), available=size * GIB)[0] for size in (192, 80, 40)]
    assert all(option.fits for option in best)
    assert [option.seconds for option in best] == sorted(option.seconds for option in best)


def test_a_run_that_cannot_fit_is_refused_with_what_would():
    must_fit(run(), available=2000 * GIB, device="cuda")
    with pytest.raises(ConfigError) as caught:
        must_fit(run(), available=80 * GIB, device="cuda")
    said = str(caught.value)
    assert "at most 78.00 GiB (80.00 less 2.0 outside of the allocator)" in said
    assert "GiB at the moment '" in said
    assert "This would fit: pretrain.zero.stage=" in said


def test_where_nothing_fits_that_is_said():
    with pytest.raises(ConfigError, match="No setting of these would: use more ranks, or GPUs with more memory"):
        must_fit(run(ranks=1), available=8 * GIB, device="cuda")


def test_on_a_cpu_more_ranks_are_no_advice_because_they_share_one_memory():
    with pytest.raises(ConfigError, match="use fewer ranks than 8, which share this machine's memory, or a machine"):
        must_fit(run(ranks=8), available=3 * GIB, device="cpu")
    with pytest.raises(ConfigError, match="use a machine with more memory, or a smaller model"):
        must_fit(run(ranks=1), available=3 * GIB, device="cpu")


@pytest.mark.parametrize(
    ("settings", "stages"),
    [({"stage": 1, "offload_optimizer": True}, {1, 2, 3}), ({"stage": 3, "offload_parameters": True}, {3})],
)
def test_only_stages_that_can_offload_are_offered_to_a_run_that_does(settings, stages):
    offloaded = replace(run(), zero=ZeroConfig(**settings))
    assert {option.run.zero.stage for option in options(offloaded, available=80 * GIB)} == stages
