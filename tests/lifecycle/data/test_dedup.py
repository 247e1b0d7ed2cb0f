"""Exact copies, and which document of a cluster stays."""

import numpy as np

from lifecycle.data.clusters import flatten, join_pairs, kept_of_each
from lifecycle.data.dedup import first_copies


def test_exact_copies_point_to_the_first():
    assert first_copies(["a", "b", "a", "A"]) == [0, 1, 0, 3]


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
