import math

import numpy as np
import pytest

from lifecycle.evaluation.baselines import Counts, counted_bits


def test_counts_by_hand():
    counts = Counts([[0, 1, 2], [0, 1, 1]], vocab_size=4)  # the stream 0 1 2 0 1 1
    assert counts.unigram(np.array([1, 3])) == pytest.approx([(3 + 1) / (6 + 4), 1 / 10])
    # After 0 always 1; after 1 once 2, once 1; 3 was never seen.
    before, words = np.array([0, 1, 1, 1, 3]), np.array([1, 2, 1, 0, 0])
    assert counts.bigram(before, words) == pytest.approx([1, 1 / 2, 1 / 2, 0, 0])


def test_probabilities_of_what_can_follow_sum_to_one():
    draw = np.random.default_rng(0)
    train = [[0, *draw.integers(1, 12, 30).tolist()] for _ in range(40)]
    everything = [[before, word] for before in range(13) for word in range(13)]  # id 12 never occurs
    found = counted_bits(train, everything, vocab_size=13)
    for bits in found:
        assert (2.0**-bits).reshape(13, 13).sum(1) == pytest.approx(np.ones(13))


def test_the_bigram_learns_what_the_unigram_cannot():
    """Ids follow each other in a circle: 1 2 3 4 1 2 ... One bit of unigram knowledge, no uncertainty in pairs."""
    train = [[0] + [1 + (start + n) % 4 for n in range(40)] for start in range(60)]
    found = counted_bits(train, [[0] + [1 + n % 4 for n in range(40)]], vocab_size=5)
    assert found.unigram[0] / 40 == pytest.approx(2.0, abs=0.1)
    assert found.bigram[0] / 40 < 0.1


def test_noise_has_no_use_for_pairs():
    """On independent ids the fitted weight gives pairs so little say that they do no harm."""
    draw = np.random.default_rng(1)
    train = [[0, *draw.integers(1, 50, 60).tolist()] for _ in range(200)]
    documents = [[0, *draw.integers(1, 50, 200).tolist()] for _ in range(20)]
    found = counted_bits(train, documents, vocab_size=50)
    assert found.bigram.sum() == pytest.approx(found.unigram.sum(), rel=0.02)
    assert found.unigram.sum() / 4000 == pytest.approx(math.log2(49), abs=0.05)
