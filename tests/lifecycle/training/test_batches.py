"""However many ranks there are, together they see the same rows once."""

from types import SimpleNamespace

import numpy as np
import pytest

from lifecycle.training.batches import Batches


class TenRows:
    """A reader of ten training and five validation rows, each filled with its own number."""

    max_seq_len = 3

    def rows_for(self, step, batch_rows, seed):
        return (np.arange(batch_rows) * 7 + step * batch_rows + seed) % 10

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
    seen = [int(row[0]) for rank in of_ranks(ranks, micro) for rows in rank.training(3) for row in rows]
    assert sorted(seen) == sorted(TenRows().rows_for(3, 8, 1))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (2, 2), (3, 4)])
def test_validation_weighs_every_row_once_in_equally_many_batches(ranks, micro):
    parts = [list(rank.validation()) for rank in of_ranks(ranks, micro)]
    assert len({len(part) for part in parts}) == 1
    weights = np.zeros(5)
    for part in parts:
        for rows, weight, sources in part:
            assert (sources == rows % 2).all()
            np.add.at(weights, rows[:, 0].numpy(), weight.numpy())
    assert weights.tolist() == [1] * 5


def test_the_share_of_labels_leaves_out_padding_and_each_rows_first_token():
    reader = TenRows()
    reader.index = SimpleNamespace(max_seq_len=3, pad_id=1, padding_tokens=5)
    batches = Batches(reader, batch_rows=8, micro_batch_rows=8, seed=1, rank=0, ranks=1)
    assert batches.padding == (1, 1 - 5 / 20)
    reader.index.padding_tokens = 0
    assert batches.padding is None
