"""Preference tuning in this process, on a model of 20,000 weights."""

import json
import math

import pytest

from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.training.post import Lora
from lifecycle.workers import preference
from lifecycle.workers.job import Recorder


@pytest.fixture
def job(sft, comparisons, tmp_path):
    def make(out: str = "out", **settings) -> PreferenceJob:
        (tmp_path / out / "log").mkdir(parents=True)
        config = PreferenceConfig(
            **{"epochs": 2, "batch_pairs": 8, "learning_rate": 1e-3, "log_every_steps": 1} | settings
        )
        return PreferenceJob(
            out_dir=tmp_path / out,
            scratch_dir=tmp_path / out / "scratch",
            config=config,
            sft=sft.path,
            train_file=comparisons.path / "train.jsonl",
            heldout_file=comparisons.path / "heldout.jsonl",
            max_seq_len=sft.max_seq_len,
        )

    return make


def run(job: PreferenceJob):
    return preference.train(job, Recorder(job.out_dir / "log"))


def steps(job: PreferenceJob) -> list[dict]:
    rows = (json.loads(line) for line in (job.out_dir / "log" / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


@pytest.mark.parametrize("settings", [{}, {"micro_batch_rows": 2}, {"lora": Lora(rank=2)}])
def test_the_loss_is_log_2_before_the_first_step(job, settings):
    made = job(precision="fp32", **settings)
    run(made)
    first = steps(made)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-5)


def test_the_chosen_answers_log_probability_is_a_term_of_the_loss_by_its_weight(job):
    """At the first step DPO's term is log 2 whatever the pairs are: what is left is weight x mean -log p(chosen)."""
    with_nll = {weight: job(f"nll-{weight}", precision="fp32", chosen_nll_weight=weight) for weight in (0.5, 1.0)}
    added = {}
    for weight, made in with_nll.items():
        run(made)
        added[weight] = steps(made)[0]["loss"] - math.log(2)
    assert added[1.0] == pytest.approx(2 * added[0.5], rel=1e-5)
    assert added[1.0] > 0.1


def test_in_bf16_the_loss_starts_at_log_2_up_to_rounding(job):
    made = job()
    run(made)
    assert steps(made)[0]["loss"] == pytest.approx(math.log(2), abs=2e-3)


def test_the_chosen_answers_of_held_out_pairs_win(job):
    made = job()
    tuned = run(made)
    assert tuned.steps == 8
    assert tuned.heldout["reward_accuracy"] == 1.0
    assert tuned.heldout["reward_margin"] > 0
    assert tuned.final_loss < math.log(2)
    assert steps(made)[-1]["logprob_chosen"] > steps(made)[-1]["logprob_rejected"]


def test_twice_the_same_job_gives_the_same_bytes(job):
    first, second = job("first"), job("second")
    assert run(first) == run(second)
    name = "model.safetensors"
    assert (first.out_dir / name).read_bytes() == (second.out_dir / name).read_bytes()
