"""Seven billion parameters over many machines: counted on the meta device, planned, and its twin on two real ranks."""

import math

import pytest
import torch
from twins import V, train, twin_of

from lifecycle.errors import ConfigError
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.fitting import GIB, must_fit
from lifecycle.model.network import network
from lifecycle.recipes import load
from lifecycle.stages.pretrain import memory_run

IDS = {"bos_id": 0, "pad_id": 1, "stop_id": 2}


def test_it_has_6_738_415_616_parameters_on_the_meta_device():
    recipe = load("zero3")
    vocab_size, length = recipe.tokenizer.vocab_size, recipe.shards.max_seq_len
    with torch.device("meta"):
        built = network(
            recipe.pretrain.model, attention="sdpa", seed=0, vocab_size=vocab_size, max_seq_len=length, **IDS
        )
    counted = sum(parameter.numel() for parameter in built.parameters())
    assert counted == recipe.pretrain.model.parameters(vocab_size) == 6_738_415_616


def test_it_fits_64_ranks_and_not_one():
    config = load("zero3").pretrain
    shape = {"max_seq_len": 4096, "vocab_size": 32_000, "device": "cuda"}
    must_fit(memory_run(config.model_copy(update={"ranks": 64}), **shape), available=80 * GIB, device="cuda")
    with pytest.raises(ConfigError, match=r"of which .* are optimizer\. No setting of these would: use more ranks"):
        must_fit(memory_run(config.model_copy(update={"ranks": 1}), **shape), available=80 * GIB, device="cuda")


def test_twenty_tokens_a_parameter_in_batches_of_four_million():
    recipe = load("zero3")
    assert recipe.pretrain.batch_rows * recipe.shards.max_seq_len == 2**22
    assert recipe.pretrain.steps(4096) == math.ceil(140e9 / 2**22)


@pytest.mark.slow
def test_its_twin_learns_on_two_ranks_with_everything_partitioned_and_recomputed(tmp_path):
    model = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=2, intermediate_size=64, tie_embeddings=False)
    config = twin_of(load("zero3"), model, ranks=2)
    assert (config.zero.stage, config.activation_checkpointing) == (3, True)
    result = train(config, tmp_path)
    assert result.parameters == model.parameters(V)
    assert result.validation_loss < math.log(V)
