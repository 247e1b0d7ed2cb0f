"""A reward model in this process, of 20,000 weights, and what evaluation's judge reads from it."""

import json

import pytest
import torch

from lifecycle.evaluation.judge import RewardJudge
from lifecycle.stages.reward import RewardConfig, RewardJob
from lifecycle.training.compared import handed
from lifecycle.training.post import Lora
from lifecycle.workers import reward
from lifecycle.workers.job import Recorder


@pytest.fixture
def job(sft, comparisons, tmp_path):
    def make(out: str = "out", **settings) -> RewardJob:
        (tmp_path / out / "log").mkdir(parents=True)
        config = RewardConfig(**{"epochs": 3, "batch_pairs": 8, "learning_rate": 1e-3, "log_every_steps": 1} | settings)
        return RewardJob(config=config, **handed(sft, comparisons, tmp_path / out))

    return make


def run(job: RewardJob):
    return reward.train(job, Recorder(job.out_dir / "log"))


def test_held_out_pairs_are_judged_right_and_length_alone_stands_beside(job):
    """The terse answer always wins, so length alone is right as well: the report must say so."""
    made = job()
    tuned = run(made)
    assert tuned.heldout["accuracy"] == 1.0
    assert tuned.heldout["length_alone"] == 1.0
    assert 0 <= tuned.heldout["ece_low"] <= tuned.heldout["ece_high"] <= 0.5
    written = json.loads((made.out_dir / reward.CALIBRATION).read_text())
    assert sum(one["pairs"] for one in written["bins"]) == written["pairs"] == 8
    assert written["accuracy_low"] < 1.0


@pytest.mark.parametrize("settings", [{}, {"lora": Lora(rank=2)}])
def test_the_judge_of_evaluation_reads_what_was_trained(job, settings):
    """The folder's rewards are those of the trainer's own forward, also where the padding is the stop token."""
    made = job(precision="fp32", **settings)
    run(made)
    judge = RewardJudge(made.out_dir, torch.device("cpu"))
    again = reward.load_judge(made.out_dir, seed=0)
    stop = judge.renderer.protocol.stop_id
    rows = [[5, 6, 7, stop], [5, 9, stop]]
    ids = torch.tensor([rows[0], [*rows[1], stop]])
    with torch.no_grad():
        found = again(ids, attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])).logits[:, 0]
    assert found.tolist() == pytest.approx(judge.rewards(rows), abs=1e-4)


def test_twice_the_same_job_gives_the_same_bytes(job):
    first, second = job("first"), job("second")
    assert run(first) == run(second)
    for name in ("model.safetensors", reward.CALIBRATION):
        assert (first.out_dir / name).read_bytes() == (second.out_dir / name).read_bytes()
