"""The evaluation in this process, on a model of 20,000 weights: every item has a record, whatever happens to it."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lifecycle.chat.folder import copy_tokenizer
from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.data.jsonl import write_rows
from lifecycle.evaluation.items import ITEMS, read_items
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.evaluation.kinds.contract import ContractSuite
from lifecycle.evaluation.kinds.instructions import InstructionSuite
from lifecycle.evaluation.kinds.multiple_choice import MultipleChoiceSuite
from lifecycle.evaluation.kinds.pairwise import PairwiseSuite, RewardModel
from lifecycle.evaluation.kinds.pass_at_k import PassAtKSuite
from lifecycle.evaluation.kinds.protocol import ProtocolSuite
from lifecycle.evaluation.metrics import measured, scores
from lifecycle.launchers.environment import worker_environment
from lifecycle.stages.evaluate import EvaluateConfig, EvaluateJob
from lifecycle.stages.suites import SuitesConfig, collect_suites
from lifecycle.workers.evaluate import SECONDS, evaluate
from lifecycle.workers.job import Recorder

UNROUNDED = {"log_probability": None, "score": None}


@pytest.fixture
def run(base, held_out, tmp_path):
    """Evaluate into a fresh folder and return the result, the records and their bytes."""
    suites, corpus = held_out

    def run(name="out", threads=2, earlier=None, **settings):
        folder = tmp_path / name
        (folder / "log").mkdir(parents=True, exist_ok=True)
        job = EvaluateJob(
            out_dir=folder,
            scratch_dir=folder / "scratch",
            config=EvaluateConfig(**{"max_new_tokens": 6, **settings}),
            model=base.path,
            suites=(sealed_suite(suites, "contract"),),
            train_file=corpus.train_file,
            validation_file=corpus.validation_file,
            max_seq_len=base.max_seq_len,
            threads=threads,
            earlier=earlier,
        )
        result = evaluate(job, Recorder(folder / "log"))
        return result, list(read_items(folder)), (folder / ITEMS).read_bytes()

    return run


def test_every_item_has_a_record_in_every_mode(run, tmp_path):
    result, items, content = run()
    answers = [(item.id, item.mode) for item in items if item.kind == "contract"]
    assert answers == [(f"t{n}", mode) for n in range(12) for mode in ("greedy", "sampled")]
    documents = [item for item in items if item.kind == "next_token"]
    assert [(item.slice, item.id) for item in documents] == [(("sea", "land")[n % 2], f"d{n}") for n in range(6)]
    assert result.items == len(items) == 30
    assert b"seconds" not in content
    seconds = parquet.read_table(tmp_path / "out" / SECONDS).to_pylist()
    assert [row["id"] for row in seconds] == [f"t{n}" for n in range(12)] + [f"d{n}" for n in range(6)]
    assert all(row["seconds"] > 0 for row in seconds)
    timed = [json.loads(line) for line in (tmp_path / "out" / "log" / "metrics.jsonl").read_text().splitlines()]
    assert {key for row in timed for key in row if key.endswith("_seconds")} == {
        "load_seconds",
        "contract_seconds",
        "bits_per_byte_seconds",
    }


def test_bits_per_byte_of_a_random_model_is_about_that_of_guessing(run, base):
    _, items, _ = run()
    found = [item for item in items if item.kind == "next_token"]
    guessing = torch.log2(torch.tensor(float(load_tokenizer(base.path).get_vocab_size()))).item()
    assert sum(-item.log_probability / math.log(2) for item in found) / sum(
        item.tokens for item in found
    ) == pytest.approx(guessing, rel=0.05)
    assert all(item.tokens < item.bytes for item in found)


def test_threads_and_batches_change_no_byte(run):
    assert run("one-thread", threads=1, batch_items=5)[2] == run("two-threads", threads=2, batch_items=5)[2]
    whole, parts = (run(f"batch-{batch}", batch_items=batch)[1] for batch in (64, 5))
    for one, other in zip(whole, parts, strict=True):
        assert one.model_copy(update=UNROUNDED) == other.model_copy(update=UNROUNDED)
        assert one.log_probability == pytest.approx(other.log_probability, abs=2e-4)


def test_the_baselines_are_counted_on_the_same_documents(run):
    found = run()[0].baselines
    names = ["", ".land", ".sea"]
    assert set(found) == {f"{model}_bits_per_byte{name}" for model in ("unigram", "bigram") for name in names}
    assert found["bigram_bits_per_byte"] < found["unigram_bits_per_byte"]


def test_a_broken_model_is_unmeasured_on_every_item(run, base):
    file = base.path / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    _, items, _ = run()
    assert {item.unmeasured for item in items} == {"logits_not_finite"}
    for score in scores(measured(items), confidence=0.95).values():
        assert (score.mean, score.low, score.unmeasured) == (None, None, score.items)


def test_more_items_take_over_what_was_scored_before(run, tmp_path):
    _, few, _ = run("few", items_per_suite=2)
    assert len(few) == 2 * 2 + 2 * 2  # two items in two modes, two documents of each source
    result, copied, _ = run("more", earlier=tmp_path / "few")
    _, afresh, _ = run("afresh")
    assert result.copied_items == len(few)
    assert [item for item in copied if item in few] == few
    assert [item.key for item in copied] == [item.key for item in afresh]
    for one, other in zip(copied, afresh, strict=True):
        assert one.model_copy(update=UNROUNDED) == other.model_copy(update=UNROUNDED)
        assert one.log_probability == pytest.approx(other.log_probability, abs=2e-4)
    seconds = parquet.read_table(tmp_path / "more" / SECONDS)
    assert len(seconds) == 10 + 2  # what was copied took no time


def test_an_item_whose_grader_fails_is_unmeasured_and_the_others_are_not(run, monkeypatch):
    grade = ContractSuite.graded

    def failing(self, row, replies):
        if row["id"] == "t3":
            raise RecursionError("too deep")
        return grade(self, row, replies)

    monkeypatch.setattr(ContractSuite, "graded", failing)
    _, items, _ = run()
    failed = [item for item in items if item.id == "t3"]
    assert {item.unmeasured for item in failed} == {"grading_failed: RecursionError"}
    assert [item.mode for item in failed] == ["greedy", "sampled"]
    found = measured(items)
    assert found["contract.greedy_correct"].items == 12
    assert found["contract.sampled_exact"].unmeasured >= 1


ROWS = {
    "format": {"checks": [{"check": "json"}, {"check": "count", "of": "words", "at_most": 3}]},
    "quiz": {"choices": ["libs", "doc", "a package"], "answer": 0},
    "sums": {"checks": [{"check": "contains", "texts": ["e"]}]},
    "duel": {"checks": [{"check": "contains", "texts": ["e"]}], "reference": "libs"},
    "judged": {"reference": "libs"},
    "chat": {},
}


@pytest.fixture
def every_suite(base, tmp_path, user):
    """One suite of every kind, six rows each, collected; the reward model is the base model with a head on it."""
    torch.manual_seed(0)
    head = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=1)
    judge = tmp_path / "judge"
    head.save_pretrained(judge)
    copy_tokenizer(base.path, judge)

    def rows(name):
        end = [{"role": "assistant", "content": "libs"}] if name == "chat" else []
        file = tmp_path / f"{name}.jsonl"
        write_rows(file, [{"id": f"{name}{n}", "messages": user(f"section {n}") + end, **ROWS[name]} for n in range(6)])
        return {"name": name, "path": file}

    config = SuitesConfig(
        suites=(
            InstructionSuite(**rows("format")),
            MultipleChoiceSuite(**rows("quiz")),
            PassAtKSuite(**rows("sums"), samples=3),
            PairwiseSuite(**rows("duel")),
            PairwiseSuite(**rows("judged"), judge=RewardModel(path=judge)),
            ProtocolSuite(**rows("chat")),
        )
    )
    (tmp_path / "every").mkdir()
    return collect_suites(config, out_dir=tmp_path / "every")


@pytest.fixture
def job_of(base, held_out, tmp_path, every_suite):
    """A job on one suite of every kind."""

    def job(name, **settings):
        folder = tmp_path / name
        (folder / "log").mkdir(parents=True, exist_ok=True)
        return EvaluateJob(
            out_dir=folder,
            scratch_dir=folder / "scratch",
            config=EvaluateConfig(**{"max_new_tokens": 6, "batch_items": 2, **settings}),
            model=base.path,
            suites=tuple(sealed_suite(every_suite, suite) for suite in sorted(every_suite.items)),
            train_file=held_out[1].train_file,
            validation_file=held_out[1].validation_file,
            max_seq_len=base.max_seq_len,
            threads=1,
        )

    return job


def test_every_kind_of_suite_has_its_records_and_metrics(job_of, base, tmp_path):
    always_stopping(base)  # an answer that is cut would be unmeasured
    job = job_of("out")
    evaluate(job, Recorder(job.out_dir / "log"))
    items = list(read_items(job.out_dir))
    assert len({item.key for item in items}) == len(items) == 6 * (2 + 1 + 3 + 2 + 2 + 2) + 6
    found = measured(items)
    names = {name for name in found if not name.startswith("bits_per_byte")}
    assert names == {
        "chat.template_parity",
        "chat.stops_after_answer",
        "chat.greedy_stopped",
        "duel.greedy_win_rate",
        "duel.sampled_win_rate",
        "duel.judge_consistent",
        "format.greedy_follows",
        "format.greedy_follows_loose",
        "format.greedy_followed_share",
        "format.greedy_stopped",
        "format.sampled_follows",
        "format.greedy_check_json",
        "format.greedy_check_count",
        "judged.greedy_win_rate",
        "judged.sampled_win_rate",
        "judged.judge_consistent",
        "quiz.accuracy",
        "quiz.accuracy_per_byte",
        "quiz.right_probability",
        "sums.pass_at_1",
        "sums.pass_at_2",
        "sums.pass_at_3",
    }
    assert found["chat.template_parity"].value == found["chat.greedy_stopped"].value == 1.0
    assert all(found[name].unmeasured == 0 for name in names)
    assert found["quiz.right_probability"].value > 0


def always_stopping(base):
    """Weights with which every answer is empty: all hidden states are one direction, and the stop token's is it."""
    file = base.path / "model.safetensors"
    weights = load_file(file)
    embeddings = weights["model.embed_tokens.weight"]
    embeddings[:] = 1 + 0.1 * embeddings  # every state looks this way, whatever was read
    embeddings[protocol_of(base.path).stop_id] = 1.5
    save_file(weights, file, metadata={"format": "pt"})


def in_a_process(job, *, ranks=None):
    (job.out_dir / "log" / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-m", "lifecycle.workers.evaluate", str(job.out_dir / "log")]
    if ranks:
        command[1:2] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    return subprocess.Popen(command, env=worker_environment(1), stderr=subprocess.PIPE)


@pytest.mark.slow  # two or three processes import torch and transformers: 10 to 20 s
@pytest.mark.parametrize("ranks", [None, 2])
def test_an_evaluation_killed_in_its_middle_goes_on_and_gives_the_same_bytes(job_of, ranks):
    whole, killed = job_of("whole"), job_of("killed")
    evaluate(whole, Recorder(whole.out_dir / "log"))
    process = in_a_process(killed)
    journal = killed.scratch_dir / "replies" / "rank-0-0.jsonl"
    deadline = time.monotonic() + 60
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    done = journal.read_bytes().count(b"\n")
    process = in_a_process(killed, ranks=ranks)
    assert process.wait(120) == 0, process.stderr.read().decode()
    assert (killed.out_dir / ITEMS).read_bytes() == (whole.out_dir / ITEMS).read_bytes()
    files = sorted(path.name for path in journal.parent.iterdir())
    assert files == ["rank-0-0.jsonl", "rank-0-1.jsonl", *(["rank-1-0.jsonl"] if ranks else [])]
    again = sum((journal.parent / name).read_bytes().count(b"\n") for name in files[1:])
    (all_done,) = (whole.scratch_dir / "replies").iterdir()
    assert done >= 3
    assert done + again == all_done.read_bytes().count(b"\n")
