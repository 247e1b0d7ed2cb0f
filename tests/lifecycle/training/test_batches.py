"""However many ranks there are, together they see the same rows once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.network import network
from lifecycle.training.batches import Batches, Fed
from lifecycle.training.losses import token_losses


class TenRows:
    """A reader of ten training and five validation rows, each filled with its own number."""

    max_seq_len = 3

    def rows_for(self, step, batch_rows, seed):
        return (np.arange(step * batch_rows, (step + 1) * batch_rows) * 7 + seed) % 10

    def rows(self, indices):
        return np.repeat(np.asarray(indices, np.int64)[:, None], 3, axis=1)

    def validation(self):
        return self.rows(np.arange(5))

    def sources_of_validation(self):
        return self.validation() % 2

    def __len__(self):
        return 10


def of_ranks(ranks: int, micro: int) -> list[Batches]:
    settings = {"batch_rows": 8, "micro_batch_rows": micro, "seed": 1, "ranks": ranks}
    return [Batches(TenRows(), rank=rank, **settings) for rank in range(ranks)]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 8), (2, 4), (2, 1), (4, 2)])
def test_ranks_together_train_on_exactly_the_batch(ranks, micro):
    seen = [int(row[0]) for rank in of_ranks(ranks, micro) for fed in rank.training(3) for row in fed.ids]
    assert sorted(seen) == sorted(TenRows().rows_for(3, 8, 1))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (2, 2), (3, 4)])
def test_validation_weighs_every_row_once_in_equally_many_batches(ranks, micro):
    parts = [list(rank.validation()) for rank in of_ranks(ranks, micro)]
    assert len({len(part) for part in parts}) == 1
    weights = np.zeros(5)
    for part in parts:
        for fed, weight, sources in part:
            assert (sources == fed.ids % 2).all()
            np.add.at(weights, fed.ids[:, 0].numpy(), weight.numpy())
    assert weights.tolist() == [1] * 5


def test_the_share_of_labels_leaves_out_padding_and_each_rows_first_token():
    reader = TenRows()
    reader.index = SimpleNamespace(max_seq_len=3, pad_id=1, padding_tokens=5)
    batches = Batches(reader, batch_rows=8, micro_batch_rows=8, seed=1, rank=0, ranks=1)
    assert batches.padding == (1, 1 - 5 / 20)
    reader.index.padding_tokens = 0
    assert batches.padding is None


SMALL = (
    ModelConfig(hidden_size=16, layers=2, heads=2, kv_heads=1, intermediate_size=32),
    Gpt2Config(hidden_size=16, layers=2, heads=2),
)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.family)
def test_two_documents_of_a_row_cost_what_each_costs_alone(model, attention):
    """Losses and gradients. The last token of the first is asked for the first of the second: a document ends there."""
    ids = {"vocab_size": 32, "max_seq_len": 16, "bos_id": 0, "pad_id": 1, "stop_id": 2}
    made = network(model, attention=attention, seed=0, **ids)
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randint(3, 32, (1, 7), generator=draw), torch.randint(3, 32, (1, 9), generator=draw)
    row, padding = torch.cat([first, second], 1), torch.ones(1, 3, dtype=torch.long)

    def costs(ids_BT, lengths):
        fed = Fed(ids_BT, torch.cat([torch.arange(length) for length in lengths])[None] if lengths else None)
        logits_BTV = fed.logits(made)
        made.zero_grad()
        torch.nn.functional.cross_entropy(logits_BTV[0], ids_BT[0, 1:], ignore_index=1, reduction="sum").backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in made.parameters()])
        return token_losses(logits_BTV, ids_BT[:, 1:])[0], gradients

    together, slope = costs(torch.cat([row, padding], 1), [7, 9, 1, 1, 1])
    alone = [costs(ids_BT, []) for ids_BT in (torch.cat([first, second[:, :1]], 1), second)]
    assert torch.allclose(together[:15], torch.cat([losses for losses, _ in alone]), atol=1e-6)
    assert torch.allclose(slope, sum(gradient for _, gradient in alone), atol=1e-5)
    run_on, _ = costs(row, [])
    assert (run_on[:7] - together[:7]).abs().max() < 1e-6 < (run_on[7:] - together[7:15]).abs().min()
