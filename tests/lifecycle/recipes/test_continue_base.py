"""Pretraining that goes on from a foreign base: counted on the meta device, planned, and its twin for real."""

import json
import math
from pathlib import Path

import pytest
import torch
from foreign_base import write_base
from transformers import AutoConfig, AutoModelForCausalLM
from twins import STEPS, T, V, train, twin_of

from lifecycle import __main__ as program
from lifecycle.errors import ConfigError
from lifecycle.model.families import OfTheBase
from lifecycle.model.fitting import GIB, must_fit
from lifecycle.model.foreign import shape_of
from lifecycle.model.network import loaded
from lifecycle.recipes import LifecycleConfig, load
from lifecycle.recipes.tiny import tiny
from lifecycle.stages.pretrain import memory_run
from lifecycle.stages.tokenizer import BaseTokenizerConfig

SMOLLM2_1_7B = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with all that planning reads of the recipe's base."""
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2_1_7B))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def recipe(base: Path) -> LifecycleConfig:
    return load("continue_base", [f"base.source={base}"])


def test_its_stages_begin_with_the_base_and_leave_nothing_out(base):
    assert recipe(base).stages[:5] == ("suites", "base", "corpus", "tokenizer", "shards")
    assert len(recipe(base).stages) == 13


def test_its_shape_is_read_from_the_base_and_counts_as_on_the_meta_device(base):
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    counted = sum(parameter.numel() for parameter in built.parameters())
    assert counted == shape_of(base).parameters(49_152) == 1_711_376_384


def test_it_fits_on_eight_gpus_and_sees_ten_billion_tokens_in_batches_of_a_million(base):
    config, length = recipe(base).pretrain, recipe(base).shards.max_seq_len
    run = memory_run(config, max_seq_len=length, vocab_size=49_152, device="cuda", model=shape_of(base))
    must_fit(run, available=80 * GIB, device="cuda")
    assert config.batch_rows * length == 2**20
    assert config.steps(length) == math.ceil(10e9 / 2**20)
    settings = config.zero.deepspeed(
        batch_rows=config.batch_rows,
        micro_batch_rows=config.rows_at_once,
        ranks=config.ranks,
        precision=config.precision,
        clip=config.clip,
    )
    assert settings["zero_optimization"]["stage"] == 1
    assert settings["gradient_accumulation_steps"] == 512 // (4 * 8)


def test_plan_reads_the_shape_from_the_base_and_says_so_without_one(base, capsys):
    where = ["--set", f"base.source={base}", "--recipe", "continue_base"]
    assert program.main(["plan", "memory", *where, "--world-size", "8", "--gpu-memory", "80GiB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert program.main(["plan", "compute", *where, "--json"]) == 0
    assert program.main(["plan", "memory", "--recipe", "continue_base"]) == 2
    assert "expected a readable file or folder for base.source" in capsys.readouterr().err


def test_a_recipe_whose_base_and_pretraining_do_not_belong_together_is_refused(base):
    small = tiny()
    changes = (
        {"base": recipe(base).base},
        {"pretrain": small.pretrain.model_copy(update={"model": OfTheBase()})},
        {"tokenizer": BaseTokenizerConfig()},
        {"corpus": None},
        {"preference": None},
        dict.fromkeys(("corpus", "tokenizer", "shards", "pretrain")),
    )
    for change in changes:
        with pytest.raises(ValueError, match="expected"):
            LifecycleConfig.model_validate(dict(small.model_copy(update=change)))
    with pytest.raises(ConfigError, match="this recipe leaves the stage out"):
        load("tiny", ["base.source=/tmp"])


def test_dropout_that_the_base_was_trained_with_is_off(tmp_path):
    there = write_base(tmp_path, "gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    model = loaded(there, attention="eager", seed=0, max_seq_len=256).train()
    ids_BT = torch.arange(8)[None]
    assert torch.equal(model(ids_BT).logits, model.eval()(ids_BT).logits)


@pytest.mark.slow
def test_its_twin_starts_where_the_base_is_and_goes_on(tmp_path, base):
    there = write_base(tmp_path / "foreign")
    config = twin_of(recipe(base), OfTheBase(), ranks=1).model_copy(update={"precision": "fp32"})
    (tmp_path / "out").mkdir()
    result = train(config, tmp_path / "out", there)
    ids_BT = torch.tensor([[(row * 7 + at) % V for at in range(T)] for row in range(4)])
    with torch.inference_mode():
        plain = AutoModelForCausalLM.from_pretrained(there, dtype=torch.float32)(ids_BT, labels=ids_BT).loss
    assert result.start_loss == pytest.approx(float(plain), rel=1e-5), "the base's own loss, before any step"
    assert result.validation_loss < result.start_loss - 0.1
    rows = [json.loads(line) for line in (tmp_path / "out/log/metrics.jsonl").read_text().splitlines()]
    assert (rows[0]["step"], rows[0]["start_loss"]) == (0, result.start_loss)
    assert rows[1]["loss"] == pytest.approx(result.start_loss, abs=0.3), "no fresh weights in between"
    assert result.steps == STEPS
    assert (tmp_path / "out/model.safetensors").exists()
