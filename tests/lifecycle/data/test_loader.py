"""What is trained on in a step depends on the seed and the step, and on nothing about who reads it."""

import numpy as np
import pytest

from lifecycle.data.loader import Loader
from lifecycle.data.shard_reader import ShardReader
from lifecycle.errors import DamagedArtifact

ROWS, BATCH = 23, 12


@pytest.fixture
def reader(made_shards, tmp_path):
    made_shards(tmp_path, [[n] * 4 for n in range(ROWS)], [[7] * 4], rows_per_shard=5)
    return ShardReader(tmp_path)


def batch_of(reader, step: int, ranks: int, workers: int) -> list[int]:
    """The first id of each row, in the order of the global batch."""
    batch = np.empty(BATCH, np.int64)
    for rank in range(ranks):
        loader = Loader(reader, batch_rows=BATCH, seed=5, rank=rank, ranks=ranks, workers=workers)
        batch[rank::ranks] = loader.rows(step)[:, 0]
    return batch.tolist()


@pytest.mark.parametrize("step", [0, 1, 7, 10**12])
def test_any_number_of_ranks_and_workers_sees_the_same_batch(reader, step):
    batches = [batch_of(reader, step, ranks, workers) for ranks in (1, 2, 3, 4, 6) for workers in (0, 1, 4)]
    assert all(batch == batches[0] for batch in batches)


@pytest.mark.parametrize("workers", [0, 3])
def test_going_on_at_a_step_is_having_come_to_it(reader, workers):
    options = {"batch_rows": BATCH, "seed": 5, "workers": workers}
    whole = Loader(reader, **options)
    steps = [whole.rows(step).tolist() for step in range(12)]
    again = Loader(reader, **options)
    assert [again.rows(step).tolist() for step in range(8, 12)] == steps[8:]
    assert again.rows(3).tolist() == steps[3]  # back, and it may


def test_an_epoch_holds_every_row_once(reader):
    loader = Loader(reader, batch_rows=ROWS, seed=0, workers=1)
    for epoch in range(3):
        assert sorted(loader.rows(epoch)[:, 0].tolist()) == list(range(ROWS))


def test_a_changed_row_stops_the_step_that_needs_it_and_no_earlier_one(made_shards, tmp_path, reader):
    content = bytearray((tmp_path / "train-2.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "train-2.bin").write_bytes(content)
    loader = Loader(ShardReader(tmp_path), batch_rows=1, seed=0, workers=2)
    bad = next(step for step in range(ROWS) if loader.row_ids(step)[0] == 10)
    for step in range(bad):
        loader.rows(step)
    with pytest.raises(DamagedArtifact, match=r"train-2\.bin: row 0"):
        loader.rows(bad)
