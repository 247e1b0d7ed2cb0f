"""Bytes by hand, laws of the plan, and the plan against real peaks of the real worker."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.memory import generation, moments, peak
from lifecycle.model.states import Run
from lifecycle.model.zero import ZeroConfig

SEVEN_B = ModelConfig(
    hidden_size=4096, layers=32, heads=32, kv_heads=32, intermediate_size=11_008, tie_embeddings=False
)
GIB = 2**30


def run(**changed: object) -> Run:
    work = Work(SEVEN_B, rows=4, tokens=4095, precision="bf16", attention="sdpa", partitioned=True)
    base = Run(work=work, vocab_size=32_000, zero=ZeroConfig(stage=3), ranks=64, checkpointing=True)
    return replace(base, **changed)  # type: ignore[arg-type]


def moment(run: Run, name: str):
    return next(moment for moment in moments(run) if moment.name == name)


def test_what_a_rank_carries_by_hand():
    """6,738,415,616 parameters: fp32 weights, a copy to step on and two Adam moments are 16 bytes each; gradients 4."""
    parameters = 6_738_415_616
    alone = Run(work=Work(SEVEN_B, 1, 4095, "bf16", "sdpa"), vocab_size=32_000, zero=ZeroConfig(stage=1))
    saved = moment(alone, "save a checkpoint")
    assert saved.parameters == 4 * parameters
    assert saved.optimizer == 12 * parameters
    spread = moment(run(), "save a checkpoint")
    assert spread.optimizer == pytest.approx(12 * parameters / 64, rel=1e-3)
    assert spread.gradients == pytest.approx(4 * parameters / 64, rel=1e-3)
    # A 64th of the weights, and 64 norms and the last one, which ZeRO 3 leaves whole on every rank.
    assert spread.parameters == pytest.approx(4 * (parameters / 64 + 65 * 4096), rel=1e-3)


def test_the_loss_of_a_micro_batch_by_hand():
    """bf16 logits, whose place their gradient takes, and of a sixteenth a copy in fp32 and its log softmax."""
    logits = 4 * 4095 * 32_000
    assert moment(run(), "loss").logits == pytest.approx((2 + 2 * 4 / 16) * logits, rel=1e-3)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_more_rows_need_more_and_more_ranks_never_need_more(stage):
    zero = ZeroConfig(stage=stage)
    sizes = []
    for rows in (1, 2, 4):
        work = Work(SEVEN_B, rows, 4095, "bf16", "sdpa", partitioned=stage == 3)
        sizes.append(peak(run(work=work, zero=zero, checkpointing=False)).total)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    by_ranks = [peak(run(zero=zero, ranks=ranks)).total for ranks in (2, 8, 64)]
    assert by_ranks == sorted(by_ranks, reverse=True)


def test_checkpointing_keeps_less_and_writing_gathers_the_whole_model():
    assert moment(run(), "loss").total < moment(run(checkpointing=False), "loss").total / 3
    assert moment(run(), "write the model").total > 4 * 6_738_415_616


def test_answers_need_keys_and_values_of_every_layer():
    found = generation(run(), items=2)
    assert found.activations == 2 * 4096 * 32 * 2 * 4096 * 4  # items, tokens, layers, keys and values, width, fp32


@pytest.mark.slow
def test_the_plan_is_never_below_what_the_real_worker_needs(tmp_path):
    """One point of each kind: no ZeRO, activations, accumulation, and GPT-2."""
    command = [sys.executable, "-m", "benchmarks.memory", "--only", "0", "12", "34", "70"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    ratios = [float(found) for found in re.findall(r"\| (\d\.\d{3}) \|", ended.stdout)]
    assert len(ratios) == 4
    assert all(1 <= ratio < 1.25 for ratio in ratios)
