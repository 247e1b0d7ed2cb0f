"""Answers of a checkpoint, drawn by name, and what becomes of them as comparisons."""

import json

import pytest
import torch

from lifecycle.chat.folder import copy_tokenizer
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import ContractError, InputError
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.stages import comparisons as stage
from lifecycle.stages.comparisons import ANSWERS, ComparisonsConfig, Sampled, SampleJob, curate_comparisons
from lifecycle.workers import reward, sample
from lifecycle.workers.job import Recorder


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {
            "id": f"p{n}",
            "prompt": [{"role": "user", "content": f"say {n}"}],
            "checks": [
                {"check": "count", "of": "characters", "at_most": 40 + n},
                {"check": "contains", "texts": ["e"]},
            ],
        }
        for n in range(24)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "prompts.jsonl"


@pytest.fixture
def job(sft, prompts, tmp_path):
    (tmp_path / "drawn" / "log").mkdir(parents=True)
    return SampleJob(
        out_dir=tmp_path / "drawn",
        scratch_dir=tmp_path / "drawn/scratch",
        model=sft.path,
        prompts=prompts,
        answers=tmp_path / "drawn" / ANSWERS,
        checkpoint=sft.digest,
        max_seq_len=sft.max_seq_len,
        answers_per_prompt=6,
        temperature=1.0,
        max_new_tokens=40,
        seed=3,
    )


def drawn(job: SampleJob):
    found = sample.sample(job, Recorder(job.out_dir / "log"))
    return found, [json.loads(line) for line in job.answers.read_text().splitlines()]


def test_every_answer_that_stopped_is_kept_with_how_it_was_drawn(job):
    found, rows = drawn(job)
    answers = [answer for row in rows for answer in row["answers"]]
    assert len(rows) == 24
    assert found.answers == len(answers) == 24 * 6 - found.not_stopped
    assert found.not_stopped > 0
    assert all(row["checkpoint"] == job.checkpoint for row in rows)
    assert {"content", "seed", "temperature", "tokens", "logprob"} <= answers[0].keys()
    assert all(0 < answer["tokens"] <= 41 and answer["logprob"] < 0 and answer["seed"] == 3 for answer in answers)


def test_the_same_job_draws_the_same_answers_and_another_seed_others(job):
    assert drawn(job) == drawn(job)
    assert drawn(job) != drawn(job.model_copy(update={"seed": 4}))


def test_a_prompt_without_room_for_an_answer_is_counted(job):
    found, rows = drawn(job.model_copy(update={"max_seq_len": 45}))
    assert found.too_long == 24 - len(rows) > 0


@pytest.mark.slow
def test_sampled_answers_become_pairs_ranked_by_the_verifier(sft, held_out, prompts, tmp_path):
    suites, _ = held_out
    # Of a random model one answer in ten stops: many are drawn, so that most prompts have several.
    sampled = Sampled(prompts=prompts, answers_per_prompt=64, max_new_tokens=40)
    config = ComparisonsConfig(sampled=sampled, heldout_share=0.3)
    (out := tmp_path / "out").mkdir()
    made = curate_comparisons(config, suites, sft, out_dir=out)
    assert min(made.train_pairs, made.heldout_pairs) > 0
    assert made.dropped["train_answer_not_stopped"] > 0
    assert {entry.kind for entry in made.manifest.inputs} == {"Suites", "Checkpoint"}
    assert ANSWERS in made.manifest.files
    row = json.loads((out / "train.jsonl").read_text().splitlines()[0])
    assert (row["source"], row["id"][:9]) == ("sampled", "sampled/p")


def test_sampled_answers_become_pairs_ranked_by_a_reward_model(sft, held_out, prompts, tmp_path, out_dir, monkeypatch):
    """The reward is that of the evaluation's judge, and of two answers the one it gives more is chosen."""
    judge = tmp_path / "judge"
    reward.load_judge(sft.path, seed=0).save_pretrained(judge)
    copy_tokenizer(sft.path, judge)
    here = lambda worker, job, kind, **_: sample.sample(job, Recorder(job.out_dir / "log"))  # noqa: E731
    monkeypatch.setattr(stage, "run_worker", here)
    sampled = Sampled(prompts=prompts, answers_per_prompt=32, max_new_tokens=40, reward=judge)
    config = ComparisonsConfig(sampled=sampled, heldout_share=0.3, max_contradicted_share=1.0)
    made = curate_comparisons(config, held_out[0], sft, out_dir=out_dir)
    reads = RewardJudge(judge, torch.device("cpu"))
    rows = [row for side in ("train", "heldout") for row in load_rows(made.path / f"{side}.jsonl")]
    assert len(rows) > 10
    for row in rows:
        conversations = [reads.ids([*row["prompt"], *row[side]]) for side in ("chosen", "rejected")]
        better, worse = reads.rewards(conversations)
        assert better > worse


def test_a_checkpoint_is_asked_for_exactly_where_answers_are_sampled(sft, held_out, prompts, out_dir):
    suites, _ = held_out
    with pytest.raises(ContractError, match=r"expected a checkpoint where comparisons\.sampled asks"):
        curate_comparisons(ComparisonsConfig(sampled=Sampled(prompts=prompts)), suites, out_dir=out_dir)
    with pytest.raises(ContractError, match=r"expected a checkpoint where comparisons\.sampled asks"):
        curate_comparisons(ComparisonsConfig(train=prompts), suites, sft, out_dir=out_dir)


def test_prompts_that_are_none_are_refused_by_their_line(job, prompts):
    prompts.write_text('{"id": "p", "prompt": []}\n')
    with pytest.raises(InputError, match=r"prompts.jsonl:1: row_no_messages"):
        drawn(job)
