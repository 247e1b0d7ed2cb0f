"""Fine-tuning in this process, on a model of 20,000 weights."""

import json
import math
from pathlib import Path

import orjson
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle.chat.protocol import TOKENIZER_FILES
from lifecycle.chat.render import render
from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.stages.sft import SftConfig, SftJob
from lifecycle.training.post import Lora
from lifecycle.workers import posttrain, sft
from lifecycle.workers.job import Recorder


@pytest.fixture
def job(base, demonstrations, tmp_path):
    def make(out: str = "out", **settings) -> SftJob:
        (tmp_path / out / "log").mkdir(parents=True)
        config = SftConfig(**{"epochs": 4, "batch_rows": 16, "learning_rate": 1e-2, "log_every_steps": 1} | settings)
        return SftJob(
            out_dir=tmp_path / out,
            scratch_dir=tmp_path / out / "scratch",
            config=config,
            base=base.path,
            train_file=demonstrations.path / "train.jsonl",
            dev_file=demonstrations.path / "dev.jsonl",
            max_seq_len=base.max_seq_len,
        )

    return make


def run(job: SftJob):
    return sft.train(job, Recorder(job.out_dir / "log"))


def metrics(job: SftJob) -> list[dict]:
    return [json.loads(line) for line in (job.out_dir / "log" / "metrics.jsonl").read_text().splitlines()]


def losses(job: SftJob) -> list[float]:
    return [row["loss"] for row in metrics(job) if "loss" in row]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_it_learns_and_leaves_a_model_folder_with_the_tokenizer_it_came_with(job, base):
    made = job()
    (made.out_dir / "log" / "metrics.jsonl").write_text('{"step": 3, "loss": 99.0}\n')  # left by a killed attempt
    tuned = run(made)
    assert tuned.steps == 12 == len(losses(made))
    assert tuned.final_loss < 0.8 * losses(made)[0]
    assert tuned.heldout["loss"] < losses(made)[0]
    assert 0.2 < tuned.supervised_share < 0.8
    assert tuned.dropped == {}
    rows = [json.loads(line) for line in made.train_file.read_text().splitlines()]
    spoken = posttrain.load_protocol(base.path)
    ids = [render(spoken.tokenizer, row["messages"]).ids for row in rows]
    assert tuned.tokens_seen == 4 * sum(map(len, ids)), "four epochs, padding not counted"
    assert metrics(made)[0]["supervised_share/made-up"] == pytest.approx(tuned.supervised_share, abs=1e-6)
    assert set(content(made.out_dir)) == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        *TOKENIZER_FILES,
    }
    for name in TOKENIZER_FILES:
        assert (made.out_dir / name).read_bytes() == (base.path / name).read_bytes()
    model = AutoModelForCausalLM.from_pretrained(made.out_dir)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 1)
    assert AutoTokenizer.from_pretrained(made.out_dir).pad_token_id == 1


def test_twice_the_same_job_gives_the_same_bytes_and_another_seed_others(job):
    first, second, other = job("first"), job("second"), job("other", seed=1)
    assert run(first) == run(second)
    run(other)
    assert content(first.out_dir) == content(second.out_dir)
    assert content(first.out_dir)["model.safetensors"] != content(other.out_dir)["model.safetensors"]


def test_logging_more_rarely_changes_nothing_that_is_sealed(job):
    often, rarely = job("often"), job("rarely", log_every_steps=7)
    assert run(often) == run(rarely)
    assert content(often.out_dir) == content(rarely.out_dir)


def test_micro_batches_give_the_loss_of_whole_batches(job):
    whole, parts = job("whole", precision="fp32"), job("parts", precision="fp32", micro_batch_rows=4)
    run(whole)
    run(parts)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-3)


def test_low_rank_updates_are_merged_into_a_plain_model(job, base):
    made = job(lora=Lora(rank=4), learning_rate=5e-2)
    tuned = run(made)
    assert tuned.final_loss < losses(made)[0]
    assert tuned.parameters == base.parameters
    plain = AutoModelForCausalLM.from_pretrained(made.out_dir)
    assert not [name for name, _ in plain.named_parameters() if "lora" in name]


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(job):
    made = job(learning_rate=1e30, precision="fp32", clip=1e30)
    with pytest.raises(WorkerFailed, match=r"expected a finite (loss|grad_norm), found (nan|inf) in step 2 of 12\."):
        run(made)
    assert not (made.out_dir / "model.safetensors").exists()
    assert all(math.isfinite(loss) for loss in losses(made))


def test_conversations_that_do_not_fit_are_counted_or_refused(job, demonstrations):
    file = demonstrations.path / "train.jsonl"
    long = [{"role": "user", "content": "a " * 80}, {"role": "assistant", "content": "b"}]
    file.write_bytes(file.read_bytes() + orjson.dumps({"id": "long", "source": "made-up", "messages": long}) + b"\n")
    assert run(job("counted", max_dropped_share=0.05, epochs=1)).dropped == {"longer_than_max_seq_len": 1}
    with pytest.raises(ContractError, match=r"at most 1\.0% of the rows to be left out, found 1 of 49"):
        run(job("refused"))
