"""Our Llama answers only for a network whose numbers it gives; every other one is asked as it is."""

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lifecycle.evaluation.faster import faster, network_of
from lifecycle.evaluation.llama import Llama
from lifecycle.evaluation.padded import Padded


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base.path).eval()


def test_what_the_recipes_train_is_known(model):
    fast = faster(model)
    assert isinstance(fast, Llama)
    assert network_of(fast) is fast


def test_grouped_heads_are_known(model):
    config = LlamaConfig(**{**model.config.to_dict(), "num_key_value_heads": 1})
    assert isinstance(faster(LlamaForCausalLM(config).eval()), Llama)


@pytest.mark.parametrize(
    "odd",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_another_network_is_left_as_it_is(model, odd):
    other = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), **odd})).eval()
    assert faster(other) is other
    assert isinstance(network_of(other), Padded)


def test_a_network_whose_numbers_differ_is_left_as_it_is(model, monkeypatch):
    monkeypatch.setattr(Llama, "_norm", lambda self, x, weight: x * weight)
    assert faster(model) is model


def test_a_network_that_goes_wrong_only_behind_its_cache_is_left_as_it_is(model, monkeypatch):
    step = Llama.step
    monkeypatch.setattr(Llama, "step", lambda self, past, tokens: step(self, past, tokens) + 1)
    assert faster(model) is model


def test_guesses_are_checked_by_narrow_networks_alone(model):
    assert Llama(model).checks_guesses
    wide = LlamaConfig(**{**model.config.to_dict(), "hidden_size": 1024, "num_attention_heads": 16, "head_dim": 64})
    assert not Llama(LlamaForCausalLM(wide).eval()).checks_guesses
    assert not Padded(model).checks_guesses
