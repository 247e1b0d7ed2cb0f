"""The GPT-2 reproduction: its counts and schedule without a GPU, and its scaled-down twin for real."""

import math

import pytest
from twins import V, train, twin_of

from lifecycle.model.fitting import GIB, must_fit
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.recipes import load
from lifecycle.stages.pretrain import memory_run
from lifecycle.training.schedule import learning_rate


def test_it_loads_without_its_data_and_trains_124m_on_ten_billion_tokens():
    recipe = load("gpt2_124m")
    config, length = recipe.pretrain, recipe.shards.max_seq_len
    assert config.model.parameters(recipe.tokenizer.vocab_size, length) == 124_439_808
    assert config.batch_rows * length == 2**19
    assert config.steps(length) == math.ceil(10_000_000_000 / 2**19)
    peak = max(
        learning_rate(
            step,
            steps=config.steps(length),
            peak=config.learning_rate,
            warmup_steps=config.warmup_steps,
            schedule=config.schedule,
            final_share=config.final_learning_rate_share,
        )
        for step in range(0, config.steps(length), 5)
    )
    assert peak == pytest.approx(6e-4, rel=1e-3)


@pytest.mark.parametrize("ranks", [8, 1])
def test_the_same_batch_fits_on_8_gpus_and_on_one(ranks):
    recipe = load("gpt2_124m", [f"pretrain.ranks={ranks}"])
    config = recipe.pretrain
    run = memory_run(config, max_seq_len=1024, vocab_size=50_257, device="cuda")
    must_fit(run, available=80 * GIB, device="cuda")
    settings = config.zero.deepspeed(
        batch_rows=config.batch_rows,
        micro_batch_rows=config.rows_at_once,
        ranks=ranks,
        precision=config.precision,
        clip=config.clip,
    )
    assert settings["gradient_accumulation_steps"] == 512 // (32 * ranks)


@pytest.mark.slow
def test_its_twin_learns_on_a_cpu(tmp_path):
    config = twin_of(load("gpt2_124m"), Gpt2Config(hidden_size=32, heads=2, layers=2), ranks=1)
    result = train(config, tmp_path)
    assert result.parameters == config.model.parameters(V, 32)
    assert result.validation_loss < math.log(V)
    assert (tmp_path / "model.safetensors").exists()
