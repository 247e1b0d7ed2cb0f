"""Nine methods, full and LoRA: two ranks learn what one does, a killed run ends in the same bytes, in a plain model.

Runs of one process share this one, all of two ranks one launch: a start costs more than ten of these trainings.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import many_jobs
import pytest
import torch
from safetensors.torch import load_file

from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.chat.protocol import TOKENIZER_FILES
from lifecycle.evaluation.decoding import Decoding, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.stages.online import OnlineConfig, OnlineJob
from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.stages.reward import RewardConfig, RewardJob
from lifecycle.training.compared import ComparedJob, handed
from lifecycle.training.post import Lora
from lifecycle.workers.posttrain import load_model

pytestmark = pytest.mark.slow  # it imports trl four times

METHODS = ("dpo", "ipo", "kto", "orpo", "simpo", "rm", "ppo", "rloo", "grpo")
ADAPTERS = {"full": None, "lora": Lora(rank=2)}
CASES = list(product(METHODS, ADAPTERS))
STEPS, SEAM = 4, 2
JUDGE = "rm, lora, alone"
MODEL = "model.safetensors"
ALIKE = {"precision": "fp32", "epochs": 1, "log_every_steps": 1, "save_every_steps": SEAM, "threads": 1}
"""Of every method: four batches of eight prompts."""
OF_PAIRS = {"batch_pairs": 8, "learning_rate": 1e-3}
ONLINE = {
    "batch_prompts": 8,
    "answers_per_prompt": 4,
    "minibatch_answers": 16,
    "max_new_tokens": 24,
    "learning_rate": 2e-3,
    "reward_source": "contract",
}
PPO = {"reward_source": "model", "pretraining_weight": 0.1, "pretraining_rows": 4, "value_learning_rate": 5e-3}
"""Whole, as InstructGPT has it: against the reward model, with pretraining text beside."""


class House:
    """A folder of trainings on the same comparisons."""

    def __init__(self, root: Path, sft: Checkpoint, comparisons: Comparisons, shards: Path) -> None:
        self.root, self.sft, self.comparisons, self.shards = root, sft, comparisons, shards

    def job(self, method: str, adapter: str, how: str, **more: object) -> ComparedJob:
        """A training to be done in a folder of its own."""
        out = self.folder(method, adapter, how)
        (out / "log").mkdir(parents=True, exist_ok=True)
        settings = {**ALIKE, "lora": ADAPTERS[adapter], **more}
        inputs = handed(self.sft, self.comparisons, out)
        if method == "rm":
            return RewardJob(config=RewardConfig(**OF_PAIRS, mismatched_per_pair=0, **settings), **inputs)
        if method in ("ppo", "rloo", "grpo"):
            own = PPO if method == "ppo" else {}
            config = OnlineConfig(method=method, **ONLINE | own | settings)
            judge = {"reward": self.root / JUDGE, "shards": self.shards} if own else {"reward": None, "shards": None}
            return OnlineJob(config=config, **judge, **inputs)
        nll = 0.0 if method == "orpo" else 0.5
        return PreferenceJob(
            config=PreferenceConfig(method=method, chosen_nll_weight=nll, **OF_PAIRS, **settings), **inputs
        )

    def folder(self, method: str, adapter: str, how: str) -> Path:
        return self.root / f"{method}, {adapter}, {how}"

    def losses(self, method: str, adapter: str, how: str) -> list[float]:
        lines = (self.folder(method, adapter, how) / "log/metrics.jsonl").read_text().splitlines()
        return [row["loss"] for row in map(json.loads, lines) if "loss" in row]

    def weights(self, method: str, adapter: str, how: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder(method, adapter, how) / MODEL)


def in_another_process(jobs: Iterable[ComparedJob], *arguments: str, ranks: int | None = None) -> None:
    jobs = list(jobs)
    file = jobs[0].out_dir / "jobs"
    many_jobs.write(file, jobs)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, *launch, many_jobs.__file__, str(file), *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def house(one_thread, kept, shown, comparisons, made_shards) -> House:
    """Every case alone; killed and gone on with; on two ranks, with ZeRO 0 and 2, and from the middle of the latter."""
    shards = kept / "shards"
    house = House(kept / "house", shown, comparisons, shards)
    if shards.exists():
        return house
    shards.mkdir()
    documents = [[n % 60 + 1, (n * 7) % 60 + 1, (n * 3) % 60 + 1, 5] for n in range(24)]
    made_shards(shards, documents, documents[:2], max_seq_len=4, rows_per_shard=24)
    for case in CASES:
        many_jobs.train(house.job(*case, "alone"))
    killed = [house.job(*case, "killed") for case in CASES]
    in_another_process(killed, str(STEPS))
    for job in killed:
        assert not (job.out_dir / MODEL).exists()
        many_jobs.train(job)
    spread = [house.job(*case, f"zero {zero}", ranks=2, zero=zero) for zero in (0, 2) for case in CASES]
    in_another_process(spread, ranks=2)
    resumed = []
    for case in CASES:
        resumed.append(house.job(*case, "zero 2, resumed", ranks=2, zero=2))
        step = f"scratch/checkpoints/step-{SEAM:08d}"
        shutil.copytree(house.folder(*case, "zero 2") / step, resumed[-1].out_dir / step)
    in_another_process(resumed, ranks=2)
    return house


@pytest.mark.parametrize(("method", "adapter"), CASES)
def test_two_ranks_learn_what_one_learns_also_where_they_share_out_their_state(method, adapter, house):
    """Answers are drawn and pairs are read on one rank or the other: gradients are added in another order, no more."""
    alone, weights = house.losses(method, adapter, "alone"), house.weights(method, adapter, "alone")
    assert len(alone) == STEPS
    for zero in (0, 2):
        assert house.losses(method, adapter, f"zero {zero}") == pytest.approx(alone, rel=1e-6, abs=1e-5)
        for name, weight in house.weights(method, adapter, f"zero {zero}").items():
            torch.testing.assert_close(weight, weights[name], atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize(("method", "adapter"), CASES)
def test_a_killed_run_goes_on_to_the_same_bytes(method, adapter, house):
    """By SIGKILL before the last step was saved; and on two ranks with ZeRO-2, from a checkpoint of half the way."""
    for whole, again in (("alone", "killed"), ("zero 2", "zero 2, resumed")):
        expected, found = (house.folder(method, adapter, how) / MODEL for how in (whole, again))
        assert found.read_bytes() == expected.read_bytes()
        assert house.losses(method, adapter, again)[-SEAM:] == house.losses(method, adapter, whole)[-SEAM:]


@pytest.mark.parametrize(("method", "adapter"), CASES)
def test_what_is_left_is_a_plain_model_of_the_evaluation(method, adapter, house):
    """An adapter is merged: the names are those of the SFT model, which moved; and only an adapter was saved."""
    folder, before = house.folder(method, adapter, "alone"), load_file(house.sft.path / MODEL)
    after = load_file(folder / MODEL)
    assert after.keys() - {"score.weight"} == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {name for name in before if "proj" in name}
    assert moved == (linear if adapter == "lora" else set(before))
    (state,) = (folder / f"scratch/checkpoints/step-{STEPS:08d}").glob("state-*.safetensors")
    learned = {name for name in load_file(state) if name.startswith("weight.") and "score" not in name}
    assert all("lora_" in name for name in learned) == (adapter == "lora")
    assert all((folder / name).read_bytes() == (house.sft.path / name).read_bytes() for name in TOKENIZER_FILES)
    ids = [5, 6, 7]
    if method == "rm":
        (reward,) = RewardJudge(folder, torch.device("cpu")).rewards([ids])
        assert reward is not None
    else:
        decoding = Decoding(2, 4, 1.0, 0, greedy=True, samples=0)
        (draw,) = decode(faster(load_model(folder).eval()), [Prompt("p", ids)], decoding)
        assert draw.fault is None
