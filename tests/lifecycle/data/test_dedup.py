"""Exact copies, and which document of a cluster stays."""

import numpy as np
import pytest

from lifecycle.data.clusters import flatten, join_pairs, kept_of_each
from lifecycle.data.dedup import digests, first_copies


def test_exact_copies_point_to_the_first():
    assert first_copies(digests([b"a", b"b", b"a", b"A"])).tolist() == [0, 1, 0, 3]
    assert first_copies(digests([])).tolist() == []


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 1_000])
def test_first_copies_are_those_of_a_dictionary_however_few_rows_are_sorted_at_a_time(rows_at_a_time):
    rows = np.random.default_rng(0).integers(0, 2**64, (40, 2), dtype=np.uint64)
    rows[20:, 0] = rows[:20, 0]  # digests that share a half are no copies
    rows = rows[np.random.default_rng(1).integers(0, 40, 500)]
    seen: dict[tuple[int, ...], int] = {}
    wanted = [seen.setdefault(tuple(row), number) for number, row in enumerate(rows.tolist())]
    assert first_copies(rows, rows_at_a_time=rows_at_a_time).tolist() == wanted
    assert len(seen) == 40


def test_the_longest_of_a_cluster_stays_and_the_first_of_several_as_long():
    cluster, lengths = np.array([0, 0, 2, 2, 4, 0]), np.array([5, 10, 4, 4, 1, 10])
    assert kept_of_each(cluster, lengths).tolist() == [1, 1, 2, 2, 4, 1]


def test_clusters_do_not_depend_on_the_order_of_pairs():
    draw = np.random.default_rng(3)
    pairs = draw.integers(0, 500, (2, 300))
    results = []
    for order in (np.arange(300), np.arange(300)[::-1], draw.permutation(300)):
        parents = np.arange(500)
        join_pairs(parents, *pairs[:, order])
        flatten(parents)
        results.append(parents)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert (results[0] <= np.arange(500)).all()
    assert (results[0][pairs[0]] == results[0][pairs[1]]).all()
