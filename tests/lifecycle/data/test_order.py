"""The order is a permutation, depends on its key alone, and looks like no order."""

import numpy as np
import pytest

from lifecycle.data.order import shuffled


@pytest.mark.parametrize("size", [*range(1, 40), 63, 64, 65, 1000, 4097])
def test_every_position_goes_to_exactly_one_place(size):
    assert sorted(shuffled(range(size), size, "key")) == list(range(size))


def test_any_position_can_be_asked_for_alone():
    whole = shuffled(range(1000), 1000, "key", 7)
    assert [int(shuffled([position], 1000, "key", 7)[0]) for position in range(0, 1000, 97)] == list(whole[::97])


def test_another_key_is_another_order():
    orders = {tuple(shuffled(range(50), 50, "rows", seed)) for seed in range(20)}
    assert len(orders) == 20


def test_neighbours_do_not_stay_neighbours():
    order = shuffled(range(10_000), 10_000, "key")
    # For a uniform permutation |a - b| of neighbours has mean n/3 = 3333 and the mean of 10^4 of them a spread of ~25.
    assert abs(np.abs(np.diff(order)).mean() - 3333) < 150
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05


def test_a_position_outside_is_refused():
    with pytest.raises(IndexError, match="expected positions below 10, found 10"):
        shuffled([10], 10, "key")
