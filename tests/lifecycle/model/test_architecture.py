"""The formula for parameters is what transformers builds, counted without allocating a byte."""

import pytest
import torch
from pydantic import ValidationError

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.llama import build

IDS = {"bos_id": 0, "pad_id": 1, "stop_id": 2}


def test_parameters_by_hand():
    model = ModelConfig(hidden_size=8, layers=2, heads=2, kv_heads=1, intermediate_size=16)
    attention = 8 * 8 + 2 * (8 * 4) + 8 * 8  # queries, one head of keys and of values, output
    layer = attention + 3 * 8 * 16 + 2 * 8  # SwiGLU, two norms
    assert model.parameters(vocab_size=10) == 10 * 8 + 2 * layer + 8


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(),
        ModelConfig(hidden_size=192, layers=3, heads=6, kv_heads=2, intermediate_size=512, tie_embeddings=False),
    ],
)
def test_parameters_are_those_of_the_network_on_the_meta_device(model):
    with torch.device("meta"):
        network = build(model.llama(vocab_size=2048, max_seq_len=64, **IDS), attention="eager", seed=0)
    assert model.parameters(2048) == sum(parameter.numel() for parameter in network.parameters())


def test_the_saved_config_knows_the_special_ids_and_caches_when_it_generates():
    with torch.device("meta"):
        config = build(ModelConfig().llama(vocab_size=64, max_seq_len=32, **IDS), attention="auto", seed=0).config
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.use_cache
    assert config.rope_parameters["rope_theta"] == 10_000.0


def test_heads_that_do_not_divide_the_width_are_refused_with_a_number_that_does():
    with pytest.raises(ValidationError, match=r"found 128 and 3\. Try heads=2"):
        ModelConfig(heads=3, kv_heads=3)
