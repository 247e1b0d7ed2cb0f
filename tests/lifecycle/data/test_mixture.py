"""Shares asked for are achieved, or it is said by how much they are not."""

import numpy as np
import pytest

from lifecycle.data.mixture import (
    Bytes,
    Mixture,
    Temperature,
    Tokens,
    asked_shares,
    over_cap,
    planned_bytes,
    repeats_for,
    shortfalls,
)


def places_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_weights_are_shares_and_a_temperature_flattens_them():
    assert asked_shares(Mixture().shares, [3.0, 1.0], [1, 1]) == [0.75, 0.25]
    by_root = Mixture(shares=Temperature(temperature=2))
    assert asked_shares(by_root.shares, [None, None], [900, 100]) == [0.75, 0.25]  # 30 : 10
    as_they_are = Mixture(shares=Temperature(temperature=1))
    assert asked_shares(as_they_are.shares, [None, None], [900, 100]) == [0.9, 0.1]


def test_a_token_budget_is_bytes_by_an_estimate():
    assert Mixture(budget=Tokens(tokens=1_000, bytes_per_token=4.2)).budget_bytes == 4_200
    assert Mixture(budget=Bytes(bytes=7)).budget_bytes == 7
    assert Mixture().budget_bytes is None


def test_without_a_budget_the_source_that_ends_first_sets_the_size():
    # Half of everything must be the second source, of which there are 100 bytes, twice.
    assert planned_bytes([0.5, 0.5], [1_000, 2 * 100], None) == [200, 200]


def test_what_an_exhausted_source_cannot_give_the_others_give_by_their_shares():
    assert planned_bytes([0.5, 0.25, 0.25], [100, 900, 900], 500) == [100, 200, 200]
    assert planned_bytes([0.5, 0.5], [10, 20], 500) == [10, 20]  # all are exhausted: the budget is not reached


@pytest.mark.parametrize("target", [0.0, 1.0, 400.0, 999.6, 1000.0, 1700.0, 3000.0])
def test_documents_come_as_often_as_it_takes_to_half_a_document(target):
    sizes = np.random.default_rng(1).integers(1, 20, 100)
    sizes = np.append(sizes, 1_000 - sizes.sum())
    repeats = repeats_for(places_of(101), sizes, target)
    assert abs((sizes * repeats).sum() - target) <= sizes.max() / 2
    assert repeats.max() - repeats.min() <= 1


def test_one_document_more_moves_no_other():
    places, sizes = places_of(200), np.full(200, 10)
    fewer, more = repeats_for(places[:199], sizes[:199], 500.0), repeats_for(places, sizes, 500.0)
    assert (fewer != more[:199]).sum() <= 1


def test_the_cap_takes_documents_in_hashed_order():
    assert over_cap(np.array([30, 10, 20], np.uint64), np.array([5, 5, 5]), 10).tolist() == [0]


def test_a_share_off_by_more_than_a_hundredth_is_stated():
    achieved = {"sea": 0.5, "land": 0.397, "air": 0.104}
    assert shortfalls({"sea": 0.5, "land": 0.4, "air": 0.1}, achieved, None, 100) == [
        "air: asked 0.1 of the training bytes, achieved 0.104"
    ]
    (budget,) = shortfalls({}, {}, 1_000, 900)
    assert budget == "budget: asked 1000 bytes, achieved 900: every source has come max_epochs times"
