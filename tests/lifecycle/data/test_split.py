"""What is held out shares no cluster with what is trained on."""

import numpy as np
import pytest

from lifecycle.data.split import documents_asked, validation_split


def test_the_first_documents_of_each_source_in_hashed_order_are_held_out():
    places = np.array([40, 10, 30, 20, 9, 7, 8, 6], np.uint64)
    source_of = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    held_out = validation_split(places, source_of, np.arange(8), share=0.25)
    assert np.flatnonzero(held_out).tolist() == [1, 7]


def test_a_source_of_one_document_or_of_one_cluster_holds_nothing_out():
    places = np.arange(5, dtype=np.uint64)
    assert not validation_split(places[:1], np.zeros(1, int), np.zeros(1, int), share=0.5).any()
    assert not validation_split(places, np.zeros(5, int), np.zeros(5, int), share=0.2).any()


def test_a_cluster_of_everything_is_weighed_once_and_not_once_a_member():
    count = 100_000  # once a member: a minute
    source_of, cluster = np.zeros(count, int), np.zeros(count, int)
    assert not validation_split(np.arange(count, dtype=np.uint64), source_of, cluster, share=0.1).any()


@pytest.mark.parametrize("seed", range(20))
def test_no_cluster_is_on_both_sides_and_no_source_gives_more_than_its_share(seed):
    draw = np.random.default_rng(seed)
    count = 400
    # Clusters of one to forty documents, over three sources of very different size.
    cluster = np.minimum.accumulate(draw.permutation(count))[draw.integers(0, count, count)]
    cluster = np.where(draw.random(count) < 0.6, np.arange(count) + count, cluster)
    source_of = draw.choice(3, count, p=[0.7, 0.27, 0.03])
    held_out = validation_split(draw.integers(0, 2**64, count, dtype=np.uint64), source_of, cluster, share=0.1)
    assert not set(cluster[held_out]) & set(cluster[~held_out])
    asked = documents_asked(np.bincount(source_of, minlength=3), 0.1)
    assert (np.bincount(source_of[held_out], minlength=3) <= asked).all()
    assert held_out.sum() >= 0.8 * asked.sum()
