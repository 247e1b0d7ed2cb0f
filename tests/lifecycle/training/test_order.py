"""Which rows a step reads."""

from collections import Counter
from itertools import islice

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.training.order import LengthWindows


def test_an_epoch_reads_every_row_once_and_rows_of_like_length_together():
    lengths = torch.randint(5, 100, (640,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(islice(LengthWindows(lengths, batch=16, seed=0).batches(), 40))
    assert sorted(row for batch in batches for row in batch) == list(range(640))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert sum(spread) / len(spread) < 40, "of 95: the rows of four batches were sorted"


@settings(max_examples=50)
@given(rows=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 9))
def test_every_batch_is_whole_and_no_row_is_read_twice_more_than_another(rows, batch, seed):
    order = LengthWindows([row % 7 for row in range(rows)], batch=batch, seed=seed)
    read = Counter()
    for one in islice(order.batches(), 3 * rows):
        assert len(one) == batch
        read.update(one)
    behind = 1 + -(-4 * batch // rows)  # batches of an epoch are shuffled, and what is left over waits for the next
    assert max(read.values()) - min(read[row] for row in range(rows)) <= behind


def test_an_order_begun_in_the_middle_is_the_same_order():
    order = LengthWindows([5] * 50, batch=8, seed=3)
    assert list(islice(order.batches(), 7, 20)) == list(islice(order.batches(), 20))[7:]
