"""Fine-tuning in this process, on a model of 20,000 weights."""

import importlib.util
import json
import math
import shutil
import signal
from pathlib import Path

import orjson
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle.chat.protocol import TOKENIZER_FILES
from lifecycle.errors import ConfigError, ContractError, LifecycleError, Preempted, WorkerFailed
from lifecycle.stages.sft import SftConfig, SftJob
from lifecycle.training import adapters
from lifecycle.training.post import EarlyStopping, Lora
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
    ids = [spoken.renderer.render(row["messages"]).ids for row in rows]
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


def uneven(job: SftJob) -> None:
    """Answers of 1 to 40 tokens: a mean of the micro batches' means would be another loss."""
    rows = [json.loads(line) for line in job.train_file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["messages"][1]["content"] = "ab" * (1 + number % 20)
    job.train_file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.mark.parametrize("other", [{"micro_batch_rows": 2}, {"layout": "packed"}, {"layout": "padding_free"}])
def test_the_loss_does_not_depend_on_micro_batches_of_unequal_length_or_on_the_layout(job, other):
    settings = {"precision": "fp32", "learning_rate": 1e-3, "epochs": 1}
    whole, parts = job("whole", **settings), job("parts", **settings, **other)
    uneven(whole)
    run(whole)
    run(parts)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_low_rank_updates_are_merged_into_a_plain_model(job, base, dora):
    made = job(lora=Lora(rank=4, dora=dora), learning_rate=5e-2, epochs=2)
    tuned = run(made)
    assert tuned.final_loss < losses(made)[0]
    assert metrics(made)[-1]["merged_logits_difference"] < 1e-6
    assert tuned.parameters == base.parameters
    plain = AutoModelForCausalLM.from_pretrained(made.out_dir)
    assert not [name for name, _ in plain.named_parameters() if "lora" in name]


QLORA = Lora(rank=4, quantized_base="nf4")


def test_a_base_in_4_bits_learns_as_its_4_bits_say_it_would(job, base, tmp_path, monkeypatch):
    """The same run on a plain base whose weights are what the 4 bits hold: every loss and the merged model agree."""
    early = EarlyStopping(every_steps=2, patience=9)  # measured on the way, where a layer could change its layout
    settings = {"precision": "fp32", "learning_rate": 5e-2, "epochs": 2, "early_stopping": early}
    held, plain = job("held", lora=QLORA, **settings), job("plain", lora=Lora(rank=4), **settings)
    first = dequantized(base, tmp_path / "dequantized")
    monkeypatch.setattr(sft.Trainer, "obey", with_rounded_adapters)
    tuned, expected = run(held), run(plain.model_copy(update={"base": first}))
    assert tuned.final_loss < losses(held)[0] - 0.2
    assert losses(held) == pytest.approx(losses(plain), abs=1e-5)
    assert tuned.heldout["loss"] == pytest.approx(expected.heldout["loss"], abs=1e-5)
    assert metrics(held)[-1]["merged_logits_difference"] < 1e-5
    assert tuned.parameters == base.parameters
    assert {weight.dtype for weight in load_file(held.out_dir / "model.safetensors").values()} == {torch.float32}


def with_rounded_adapters(self, *given, obey=sft.Trainer.obey) -> None:
    """TRL rounds the first weights of a 4-bit base's adapter to bf16, and of another base's it does not."""
    for weight in self.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.bfloat16().float()
    obey(self, *given)


def dequantized(base, folder: Path) -> Path:
    """The base with every weight that is held in 4 bits replaced by what they say: far from what it was."""
    shutil.copytree(base.path, folder)
    found = posttrain.load_model(base.path, **adapters.quantization(QLORA, "fp32"))
    weights = load_file(base.path / "model.safetensors")
    held = {name: module.weight for name, module in found.named_modules() if hasattr(module, "quant_state")}
    assert len(held) == 7, "every linear layer of the one block, and not the embedding"
    for name, weight in held.items():
        said = dequantize_4bit(weight.data, weight.quant_state)
        assert 0.001 < (said - weights[f"{name}.weight"]).abs().max() < 0.1
        weights[f"{name}.weight"] = said
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


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


def test_four_bits_are_refused_where_the_package_is_missing(job, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package bitsandbytes, found none\. pip install 'llm-lifecycle"):
        adapters.quantization(Lora(quantized_base="nf4"))


def stopped_after(step: int, job: SftJob, monkeypatch) -> None:
    """Train until a SIGTERM that comes in `step`."""
    step_taken = sft.Trainer.step_taken

    def ask(self) -> bool:
        if self.state.global_step == step:
            signal.raise_signal(signal.SIGTERM)
        return step_taken(self)

    with monkeypatch.context() as patched:
        patched.setattr(sft.Trainer, "step_taken", ask)
        with pytest.raises(Preempted, match=f"saved after step {step} of 6"):
            run(job)


@pytest.mark.parametrize("settings", [{}, {"lora": Lora(rank=2, dropout=0.1), "micro_batch_rows": 8}, {"lora": QLORA}])
def test_a_run_that_was_told_to_stop_goes_on_to_the_same_bytes(job, settings, monkeypatch):
    whole, halved = job("whole", epochs=2, **settings), job("halved", epochs=2, **settings)
    expected = run(whole)
    stopped_after(2, halved, monkeypatch)
    stopped_after(5, halved, monkeypatch)
    if settings:
        (saved,) = (halved.scratch_dir / "checkpoints/step-00000005").glob("state-*.safetensors")
        assert {"lora" in name for name in load_file(saved)} == {True}, "of an adapter only, and no pickle"
    assert run(halved) == expected
    assert content(halved.out_dir) == content(whole.out_dir)
    assert losses(halved) == losses(whole)
    assert run(halved) == expected, "killed while its model was being written"


def test_a_checkpoint_of_other_rows_is_not_gone_on_from(job):
    made = job(epochs=1)
    run(made)
    with pytest.raises(LifecycleError, match=r"found one with demonstrations: None -> 'd2'"):
        run(made.model_copy(update={"inputs": {"demonstrations": "d2"}}))


def test_training_ends_when_held_out_rows_get_no_better_and_the_best_weights_are_kept(job):
    early = EarlyStopping(every_steps=1, patience=2)
    made = job(learning_rate=0.3, early_stopping=early)
    tuned = run(made)
    judged = [row["dev/loss"] for row in metrics(made) if "dev/loss" in row][:-1]
    best = judged.index(min(judged))
    assert len(judged) == best + 1 + 2 < 12
    assert tuned.steps == best + 1
    assert tuned.heldout["loss"] == pytest.approx(min(judged), abs=1e-6)
    assert tuned.final_loss == pytest.approx(losses(made)[best], abs=1e-6)


def test_the_contract_score_is_the_share_of_greedy_answers_the_evaluation_calls_right(job):
    """A model that is shown one answer alone learns to give it: two of the first four held-out rows ask for another."""
    early = EarlyStopping(metric="contract", every_steps=6, patience=9, rows=4)
    made = job(early_stopping=early, epochs=8)
    rows = [json.loads(line) for line in made.train_file.read_text().splitlines()]
    for row in rows:
        row["messages"][-1]["content"] = '{"section": "libs"}'
    made.train_file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    run(made)
    assert [row["dev/contract"] for row in metrics(made) if "dev/contract" in row][-1] == 0.5


def test_rows_without_one_right_answer_have_no_contract_score(job):
    made = job(early_stopping=EarlyStopping(metric="contract", every_steps=1))
    uneven(made.model_copy(update={"train_file": made.dev_file}))
    with pytest.raises(
        ContractError, match="expected a last answer that is one JSON object with one field, found 'ab'"
    ):
        run(made)
