"""Host memory of ranks with GPUs, by hand and against what the real worker holds with everything offloaded."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lifecycle.errors import ConfigError
from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.fitting import GIB, must_fit, options
from lifecycle.model.host import OUTSIDE_OF_TENSORS, Host, Node, host_moments, host_peak, pinned, resident
from lifecycle.model.states import Run
from lifecycle.model.zero import ZeroConfig

SMALL = ModelConfig(hidden_size=8, layers=1, heads=1, kv_heads=1, intermediate_size=16)  # 744 numbers (test_states)
SEVEN_B = ModelConfig(
    hidden_size=4096, layers=32, heads=32, kv_heads=32, intermediate_size=11_008, tie_embeddings=False
)
BYTES = 4 * 6_738_415_616


def run(model: ModelConfig = SMALL, *, stage: int = 1, ranks: int = 1, accumulation: int = 1, **settings: bool) -> Run:
    work = Work(model, 1, 7, "bf16", "sdpa", partitioned=stage == 3)
    zero = ZeroConfig(stage=stage, **settings)
    return Run(work, vocab_size=10 if model is SMALL else 32_000, zero=zero, ranks=ranks, accumulation=accumulation)


def at(name: str, run: Run, node: Node):
    return next(moment for moment in host_moments(run, node) if moment.name == name)


def test_pinned_memory_comes_in_powers_of_two():
    assert [pinned(size) for size in (0, 1, 4, 5, 4096, 4097)] == [0, 1, 4, 8, 4096, 8192]


def test_what_is_offloaded_by_hand():
    """744 numbers: weights to step on, their gradients, what is sent back, two moments; the largest tensor has 128."""
    numbers, largest = 744, 128
    assert resident(run()) == 0
    assert resident(run(stage=2, offload_optimizer=True), place=int) == 4 * (5 * numbers + largest)
    assert resident(run(stage=2, offload_optimizer=True, accumulation=2), place=int) == 4 * (6 * numbers + largest)
    assert resident(run(stage=3, offload_optimizer=True), place=int) == 4 * 5 * numbers
    assert resident(run(stage=3, offload_optimizer=True, offload_parameters=True), place=int) == 4 * 7 * numbers
    # Pinned: 720 numbers in matrices and 24 in norms are 2,880 and 96 bytes, for which torch takes 4,096 and 128.
    assert resident(run(stage=2, offload_optimizer=True)) == 2 * 4 * numbers + 3 * (4096 + 128) + 512


def test_every_rank_builds_the_model_where_only_the_first_does_under_zero_3():
    eight = Node(8)
    assert at("start", run(SEVEN_B, stage=1, ranks=8), eight)[1:] == (BYTES, 0)
    assert at("start", run(SEVEN_B, stage=3, ranks=8), eight)[1:] == (0, BYTES)
    assert at("start", run(SEVEN_B, stage=3, ranks=8), replace(eight, adopted=True))[1:] == (BYTES, 0)
    assert host_peak(run(SEVEN_B, ranks=8), eight).of_node(8) == 8 * (BYTES + OUTSIDE_OF_TENSORS)


def test_writing_and_saving_copy_what_is_on_the_gpu():
    spread = run(SEVEN_B, stage=3, ranks=8)
    assert at("save a checkpoint", spread, Node(8)).each == pytest.approx(3 * BYTES / 8, rel=1e-3)
    assert at("write the model", spread, Node(8)).first == BYTES
    assert at("write the model", spread, Node(8, fp16=True))[1:] == (BYTES, 0)  # every rank gathers it in fp32
    offloaded = run(SEVEN_B, stage=3, ranks=8, offload_optimizer=True)
    assert at("save a checkpoint", offloaded, Node(8)).each == at("train", offloaded, Node(8)).each


def test_a_machine_that_is_too_small_is_refused_with_the_moment_and_what_to_do():
    given = run(SEVEN_B, stage=3, ranks=8, offload_optimizer=True)
    host = Host(Node(8), 100 * GIB)
    with pytest.raises(ConfigError, match=r"8 ranks of one machine.*its 100\.0 GiB.*'start'.*fewer ranks on each"):
        must_fit(given, available=80 * GIB, device="cuda", host=host)
    must_fit(given, available=80 * GIB, device="cuda", host=host._replace(bytes=400 * GIB))
    with pytest.raises(ConfigError, match=r"at the moment 'start'.*Use ZeRO 3"):
        must_fit(run(SEVEN_B, stage=2, ranks=64), available=80 * GIB, device="cuda", host=host)


def test_a_way_that_does_not_fit_the_machine_is_not_the_fastest_that_fits():
    given = run(SEVEN_B, stage=1, ranks=64)
    assert {option.run.zero.stage for option in options(given, available=80 * GIB) if option.fits} == {1, 2, 3}
    found = options(given, available=80 * GIB, host=Host(Node(8), 150 * GIB))
    assert {option.run.zero.stage for option in found if option.fits} == {3}
    assert all(option.host_lacks > 0 for option in found if option.run.zero.stage < 3)


@pytest.mark.slow
def test_both_plans_together_are_never_below_what_the_real_worker_holds_here():
    """On a CPU host and device are one memory: ZeRO 2 with two micro batches, and ZeRO 3 with everything offloaded."""
    command = [sys.executable, "-m", "benchmarks.memory", "--only", "82", "84"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
    ratios = [float(found) for found in re.findall(r"offloaded: \w+ \| [\d.]+ \| [\d.]+ \| (\d\.\d{3}) \|", said)]
    assert len(ratios) == 2, said
    assert all(1 <= ratio < 1.25 for ratio in ratios)
