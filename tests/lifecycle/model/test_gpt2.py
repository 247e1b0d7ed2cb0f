"""GPT-2 to the last parameter."""

import pytest
import torch
from pydantic import ValidationError

from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.network import network

IDS = {"bos_id": 0, "pad_id": 1, "stop_id": 2}


def test_124m_has_124_439_808_parameters_as_counted_on_the_meta_device():
    with torch.device("meta"):
        built = network(Gpt2Config(), attention="eager", seed=0, vocab_size=50_257, max_seq_len=1024, **IDS)
    counted = sum(parameter.numel() for parameter in built.parameters())
    assert counted == Gpt2Config().parameters(50_257, 1024) == 124_439_808
    assert [p.numel() for p in built.transformer.h[0].parameters()] == Gpt2Config().layer_tensors()


def test_weights_are_a_function_of_the_seed_alone():
    small = Gpt2Config(hidden_size=16, heads=2, layers=1)
    one, two, other = (
        network(small, attention="eager", seed=seed, vocab_size=32, max_seq_len=8, **IDS).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["transformer.wte.weight"], other["transformer.wte.weight"])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match=r"divide hidden_size=768, found 7\. Try heads=12"):
        Gpt2Config(heads=7)
