"""Shares of tensors over ranks, small enough to count."""

from dataclasses import replace

from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.states import Run, States
from lifecycle.model.zero import ZeroConfig

MODEL = ModelConfig(hidden_size=8, layers=1, heads=1, kv_heads=1, intermediate_size=16)


def states(ranks: int, stage: int = 1) -> States:
    return States(Run(Work(MODEL, 1, 7, "fp32", "eager"), vocab_size=10, zero=ZeroConfig(stage=stage), ranks=ranks))


def test_tensors_are_those_of_the_network_in_its_order():
    # embedding 10*8; queries, keys, values, output 8*8; gate, up, down 8*16; two norms; the last norm
    assert states(1).tensors == [80, 64, 64, 64, 64, 128, 128, 128, 8, 8, 8]
    assert sum(states(1).tensors) == MODEL.parameters(10)


def test_each_group_is_padded_before_it_is_shared_out():
    # 720 numbers in matrices, 24 in norms, over 5 ranks in pairs: 144 and ceil(24 / 10) * 2 = 6
    assert states(5).share == 4 * (144 + 6)


def test_a_rank_keeps_whole_the_gradients_of_tensors_it_only_touches():
    # Matrices over 2 ranks cut at 360: 80 + 4 * 64 = 336, so the first gate matrix (128) is on both. Rank 0 holds
    # 336 + 128 and of the norms (cut at 12) the first and second; rank 1 the 3 matrices and the other two norms.
    assert states(2).gradient_share == 4 * max(336 + 128 + 16, 3 * 128 + 16)
    assert states(1).gradient_share == 4 * 744


def test_zero_3_keeps_small_tensors_whole_and_fetches_large_ones():
    wide = ModelConfig(hidden_size=512, layers=1, heads=8, kv_heads=1, intermediate_size=1024)
    large = States(Run(Work(wide, 1, 7, "fp32", "eager"), vocab_size=100, zero=ZeroConfig(stage=3), ranks=2))
    stays, fetched = large.gathered
    assert fetched == 4 * (2 * 512 * 512 + 3 * 512 * 1024)
    assert stays == 4 * (100 * 512 + 2 * 512 * 64 + 3 * 512)


def test_what_is_in_host_memory_is_not_on_the_device():
    """Half of 744 numbers: weights, gradients, and a copy with two moments for the optimizer; the bucket stays."""
    zero = {"stage": 3, "bucket_elements": 1}
    resident = {
        name: States(replace(states(2).run, zero=ZeroConfig(**zero, **settings))).resident()
        for name, settings in (("none", {}), ("both", {"offload_optimizer": True, "offload_parameters": True}))
    }
    assert resident["none"].optimizer == 3 * 4 * 744 // 2
    assert resident["both"].optimizer == 0
    assert resident["none"].parameters - resident["both"].parameters == 4 * 744 // 2
    assert resident["none"].gradients - resident["both"].gradients == 4 * 744 // 2
    assert resident["none"].buffers == resident["both"].buffers
