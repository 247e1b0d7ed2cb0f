"""PPO, RLOO and GRPO in this process, on a model of 20,000 weights that was shown half of the task."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lifecycle import launch
from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.stages.online import OnlineConfig, OnlineJob
from lifecycle.stages.reward import RewardConfig, RewardJob
from lifecycle.training.drift import DriftPolicy
from lifecycle.training.post import Lora, Tuned
from lifecycle.workers import learner, online, policy, posttrain, reward, rollout
from lifecycle.workers.job import Recorder
from lifecycle.workers.rollout import Actor, as_batch, read_prompts
from lifecycle.workers.scores import ByContract, right_answer

SETTINGS = {
    "ppo": {"learning_rate": 2e-3, "value_learning_rate": 5e-3},
    "rloo": {"learning_rate": 2e-3},
    "grpo": {"learning_rate": 2e-3},
}
WATCHED = {"every_steps": 1, "prompts": 8, "max_new_tokens": 24, "max_disagreement": None}


@pytest.fixture
def job(one_thread, shown, comparisons, tmp_path):
    def make(method: str, out: str = "out", judge: Path | None = None, **settings) -> OnlineJob:
        (tmp_path / out / "log").mkdir(parents=True, exist_ok=True)
        given = {"epochs": 8, "batch_prompts": 8, "answers_per_prompt": 4, "minibatch_answers": 32} | SETTINGS[method]
        source = "contract" if judge is None else "model"
        return OnlineJob(
            out_dir=tmp_path / out,
            scratch_dir=tmp_path / out / "scratch",
            config=OnlineConfig(**{"method": method, "reward_source": source, "max_new_tokens": 24} | given | settings),
            sft=shown.path,
            reward=judge,
            shards=None,
            train_file=comparisons.path / "train.jsonl",
            heldout_file=comparisons.path / "heldout.jsonl",
            max_seq_len=shown.max_seq_len,
        )

    return make


def run(job: OnlineJob):
    return online.train(job, Recorder(job.out_dir / "log"))


def rows_of(job: OnlineJob) -> list[dict]:
    return [json.loads(line) for line in (job.out_dir / "log" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo"])
def test_each_method_solves_the_task_that_the_contract_scores(method, job):
    """Half of the first answers are exactly right; after 32 steps nearly all, also to prompts never seen."""
    made = job(method)
    tuned = run(made)
    steps = [row for row in rows_of(made) if "score" in row]
    assert steps[0]["score"] < 0.75
    assert tuned.heldout["score"] > 0.9
    assert tuned.steps == len(steps) == 32
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert tuned.heldout["kl"] > 0.1


@pytest.mark.parametrize("settings", [{}, {"lora": Lora(rank=4)}])
def test_what_was_sampled_has_the_probability_that_the_forward_learns_from(settings, job):
    """Greedily or not, adapter or not: the cached network, merged anew, is the policy to 1e-4."""
    training = online.Training(job("ppo", **settings), Recorder(Path(os.devnull)))
    policy_now = training.learner.nets.policy
    with torch.no_grad():
        for name, weight in policy_now.named_parameters():
            if weight.requires_grad and ("lora_B" in name or not settings):
                weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    answers = training.roll_out(0, range(8))
    batch = as_batch(answers)
    with torch.no_grad():
        logprob_BT, _ = policy.log_probabilities(policy_now, batch)
    sampled_BT = rollout.filled([answer.sampled for answer in answers], batch.mask)
    assert (logprob_BT - sampled_BT).abs().max() < learner.SAME
    known_BT = rollout.filled([answer.reference for answer in answers], batch.mask)
    assert (known_BT - sampled_BT).abs().max() > 100 * learner.SAME  # the reference is not the policy any more
    if settings:
        assert training.reference.frozen is None  # it shares the policy's weights


def test_a_policy_that_is_not_the_one_that_spoke_is_refused(job):
    training = online.Training(job("rloo"), Recorder(Path(os.devnull)))
    answers = training.roll_out(0, range(8))
    answers[0].sampled[0] -= 0.01
    made = online.experience(training.config, answers, kl_coefficient=0.0)
    with pytest.raises(WorkerFailed, match="expected sampled tokens to have the log-probability"):
        training.learner.learn(made, step=0, rate=1e-3)


def test_the_reference_is_asked_once_a_step_however_often_its_answers_are_passed_over(job, monkeypatch):
    made = job("grpo", passes=4)
    training = online.Training(made, Recorder(made.out_dir / "log"))
    asked, log_probabilities = [], training.reference.log_probabilities
    monkeypatch.setattr(
        training.reference, "log_probabilities", lambda batch: asked.append(batch) or log_probabilities(batch)
    )
    training.step(0, range(8))
    assert [len(batch.ids) for batch in asked] == [8 * 4]


def test_micro_batches_change_nothing_but_rounding(job):
    """The loss of a minibatch is one number, however it is cut: each token keeps its weight."""
    found = []
    for micro in (None, 8):
        training = online.Training(job("grpo", f"micro-{micro}", micro_batch_rows=micro), Recorder(Path(os.devnull)))
        made = online.experience(training.config, training.roll_out(0, range(8)), kl_coefficient=0.05)
        found.append(training.learner.update(made, list(range(32)), number=0, rate=1e-3, same=True))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2])
def test_two_ranks_learn_what_one_learns(zero, job):
    """Prompts are answered on one rank or the other, minibatches cut in two: the same steps, up to rounding."""
    settings = {"epochs": 1, "threads": 1, "micro_batch_rows": 8, "drift": DriftPolicy(**WATCHED, max_kl=None)}
    one, two = job("ppo", "one", **settings), job("ppo", "two", ranks=2, zero=zero, **settings)
    run(one)
    launch.run_worker("lifecycle.workers.online", two, Tuned, ranks=2, threads=1)
    for mine, other in zip(rows_of(one), rows_of(two), strict=True):
        assert mine == pytest.approx({**other, "time": mine["time"]}, abs=1e-5)
    weights = [load_file(made.out_dir / "model.safetensors") for made in (one, two)]
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=1e-5), name


def test_a_killed_run_goes_on_to_the_same_bytes(job):
    """kill -9 after some step; the same command again; the model of an undisturbed run."""
    settings = {"epochs": 2, "save_every_steps": 2, "kl_target": 1.0}
    whole, killed = job("ppo", "whole", **settings), job("ppo", "killed", **settings)
    run(whole)
    file = killed.out_dir / "log" / "job.json"
    file.write_text(killed.model_dump_json())
    program = (
        "import os, sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from lifecycle.stages.online import OnlineJob\n"
        "from lifecycle.workers import online\n"
        "from lifecycle.workers.job import Recorder\n"
        "job = OnlineJob.model_validate_json(Path(sys.argv[1]).read_bytes())\n"
        "step = online.Training.step\n"
        "def dying(self, number, numbers):\n"
        "    if number == 5: os.kill(os.getpid(), 9)\n"
        "    return step(self, number, numbers)\n"
        "online.Training.step = dying\n"
        "online.train(job, Recorder(job.out_dir / 'log'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    assert sorted(path.name for path in (killed.scratch_dir / "checkpoints").glob("step-*")) == [
        "step-00000002",
        "step-00000004",
    ]
    assert run(killed).final_loss == json.loads(json.dumps(run(whole).final_loss))
    name = "model.safetensors"
    assert (killed.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes()
    assert [row["step"] for row in rows_of(killed)] == [row["step"] for row in rows_of(whole)]


def test_ppo_learns_from_a_reward_model_whose_critic_begins_as_it(job, comparisons, tmp_path):
    shown_path, out = job("ppo").sft, tmp_path / "judge"
    (out / "log").mkdir(parents=True)
    judge = RewardJob(
        out_dir=out,
        scratch_dir=out / "scratch",
        config=RewardConfig(epochs=4, batch_pairs=8, learning_rate=3e-3, mismatched_per_pair=1),
        sft=shown_path,
        train_file=comparisons.path / "train.jsonl",
        heldout_file=comparisons.path / "heldout.jsonl",
        max_seq_len=64,
    )
    reward.train(judge, Recorder(out / "log"))
    made = job("ppo", "judged", judge=out, kl_coefficient=0.2)
    training = online.Training(made, Recorder(Path(os.devnull)))
    answers = training.roll_out(0, range(4))
    stopped = [answer for answer in answers if answer.stopped]
    batch = as_batch(answers)
    whole = batch._replace(at=batch.at + 1)  # read at an answer's last token, a value is the judge's reward
    last = training.learner.values(whole).gather(1, batch.mask.sum(1, keepdim=True).long() - 1)[:, 0]
    expected = dict(zip(map(id, answers), last.tolist(), strict=True))
    assert stopped
    for answer in stopped:
        assert answer.score == pytest.approx(expected[id(answer)], abs=1e-3)
    tuned = run(made)
    steps = [row for row in rows_of(made) if "score" in row]
    assert tuned.heldout["score"] > steps[0]["score"] + 0.3
    assert steps[-1]["kl_coefficient"] == 0.2


def test_a_policy_that_runs_away_is_stopped_and_the_best_step_before_is_kept(job):
    """The reward is the contract's, the rate a hundred times too high: named, and what is kept has kept the rule."""
    made = job("rloo", drift=DriftPolicy(**WATCHED, max_kl=1.5), learning_rate=2e-2, warmup_share=0.3)
    tuned = run(made)
    assert tuned.findings == {"moved_too_far": 1}
    assert tuned.steps < 32
    assert tuned.drift["kl"] <= 1.5
    findings = (made.out_dir / "log" / "findings.jsonl").read_text()
    assert "a KL to the reference of" in findings


def test_unfinished_answers_have_the_score_that_the_config_gives_them(job):
    training = online.Training(job("rloo", max_new_tokens=2, unfinished_score=-3.0), Recorder(Path(os.devnull)))
    answers = training.roll_out(0, range(4))
    assert {answer.score for answer in answers if not answer.stopped} == {-3.0}


def test_what_is_said_depends_on_seed_step_and_prompt_alone(job, shown):
    training = online.Training(job("rloo"), Recorder(Path(os.devnull)))
    whole = training.actor.answers([(n, training.prompts[n]) for n in range(6)], step=3)
    alone = training.actor.answers([(4, training.prompts[4])], step=3)
    assert [answer.ids for answer in whole[16:20]] == [answer.ids for answer in alone]
    later = training.actor.answers([(4, training.prompts[4])], step=4)
    assert [answer.ids for answer in later] != [answer.ids for answer in alone]


def test_prompts_are_read_once_and_must_leave_room(shown, comparisons):
    spoken = posttrain.load_protocol(shown.path)
    file = comparisons.path / "train.jsonl"
    twice = file.with_name("twice.jsonl")
    twice.write_bytes(file.read_bytes() * 2)
    found, dropped = read_prompts(twice, spoken, room=40, max_dropped_share=0.0)
    assert (len(found), dropped) == (32, 0)
    with pytest.raises(ContractError, match=r"expected at most 0\.0% of the rows to be left out"):
        read_prompts(file, spoken, room=5, max_dropped_share=0.0)


def test_the_contract_scores_exact_answers_and_checks(shown, comparisons):
    spoken = posttrain.load_protocol(shown.path)
    (first, second, *_), _ = read_prompts(comparisons.path / "train.jsonl", spoken, room=40, max_dropped_share=0.0)
    checks = [{"check": "json"}, {"check": "count", "of": "characters", "at_most": 3}]
    second = second._replace(row={**second.row, "checks": checks})
    scores = ByContract([first, second], spoken.renderer.tokenizer)

    def score(asked, text: str) -> float:
        ids = spoken.renderer.tokenizer.encode(text, add_special_tokens=False).ids
        return scores.of([rollout.Answer(asked.ids, [*ids, spoken.renderer.protocol.stop_id], True, [])])[0]

    right = first.row["chosen"][0]["content"]
    assert [score(first, text) for text in (right, f"Sure: {right}", '{"section": "games"}')] == [1.0, 0.0, 0.0]
    assert [score(second, text) for text in ("{}", right, "so")] == [1.0, 0.5, 0.5]


def test_a_row_without_one_right_answer_is_refused():
    row = {"id": "r1", "chosen": [{"role": "assistant", "content": "It depends."}]}
    with pytest.raises(ContractError, match="row r1: reward_source=contract expected"):
        right_answer(row)
    assert right_answer({**row, "field": "a", "value": None}) == ("a", None)


def test_the_actor_is_the_policy_again_after_each_step(job, shown):
    """A copy that was not told of a step would answer as the policy did before."""
    training = online.Training(job("rloo"), Recorder(Path(os.devnull)))
    actor = Actor(shown.path, training.decoding_of(1))
    source = training.learner.nets.policy
    with torch.no_grad():
        source.get_input_embeddings().weight.mul_(1.5)
    actor.become(source)
    assert torch.equal(actor.plain.get_input_embeddings().weight, source.get_input_embeddings().weight)
    assert torch.equal(actor.network.embedding, source.get_input_embeddings().weight)
