"""A network whose layers are compiled computes what it did, for both families."""

import shutil

import pytest
import torch

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.network import compile_layers, network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs with the machine's compiler"),
]

SMALL = (
    ModelConfig(hidden_size=16, layers=2, heads=2, kv_heads=1, intermediate_size=32),
    Gpt2Config(hidden_size=16, layers=2, heads=2),
)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.family)
def test_compiled_layers_give_the_losses_and_gradients_of_those_that_are_not(model):
    ids = torch.randint(0, 32, (2, 8), generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        made = network(model, attention="eager", seed=0, vocab_size=32, max_seq_len=16, bos_id=0, pad_id=1, stop_id=2)
        names = list(made.state_dict())
        if compiled:
            compile_layers(made)
        loss = made(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        found.append((loss.item(), torch.cat([parameter.grad.flatten() for parameter in made.parameters()])))
        assert list(made.state_dict()) == names  # it is saved as any other
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)
