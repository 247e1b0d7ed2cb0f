"""What counting alone achieves: unigram and interpolated bigram bits on the documents a model is scored on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

HELD_OUT_EVERY = 20  # 5 % of 2M tokens settle 20 weights to three digits
EM_ROUNDS = 30


class Bits(NamedTuple):
    """Bits of each document, both (documents,)."""

    unigram: Floats
    bigram: Floats


def counted_bits(train: Sequence[Sequence[int]], documents: Sequence[Sequence[int]], *, vocab_size: int) -> Bits:
    """Bits that models counted on `train` need for `documents`, BOS given; every document's ids begin with BOS.

    The bigram is p(w|v) = a c(v,w) / c(v) + (1 - a) p(w), with a weight `a` for each power of two of c(v). The weights
    are fitted by EM on every 20th training document, counted on the others; then all are counted.
    Jelinek and Mercer 1980; Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling",
    section 2.3.
    """
    held_out = [ids for number, ids in enumerate(train) if number % HELD_OUT_EVERY == 0]
    others = [ids for number, ids in enumerate(train) if number % HELD_OUT_EVERY] or held_out
    weights = _fitted_weights(Counts(others, vocab_size), held_out)
    counts = Counts(train, vocab_size)
    scored = [_bits(counts, weights, ids) for ids in documents]
    return Bits(np.array([unigram for unigram, _ in scored]), np.array([bigram for _, bigram in scored]))


class Counts:
    """How often each id and each pair of neighbours occurs. Sparse: a vocabulary squared would not fit in memory."""

    def __init__(self, documents: Sequence[Sequence[int]], vocab_size: int) -> None:
        stream = np.concatenate([np.asarray(ids, np.int64) for ids in documents])
        self.vocab_size = vocab_size
        self.single = np.bincount(stream, minlength=vocab_size)
        self.before = np.bincount(stream[:-1], minlength=vocab_size)
        self.pairs, self.pair_counts = np.unique(stream[:-1] * vocab_size + stream[1:], return_counts=True)

    def unigram(self, words: Ids) -> Floats:
        """p(w), one added to every count."""
        return np.asarray((self.single[words] + 1) / (self.single.sum() + self.vocab_size))

    def bigram(self, before: Ids, words: Ids) -> Floats:
        """c(v,w) / c(v), and 0 where v was never seen."""
        keys = before * self.vocab_size + words
        at = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        found = np.where(self.pairs[at] == keys, self.pair_counts[at], 0)
        return np.asarray(found / np.maximum(self.before[before], 1))

    def bucket(self, before: Ids) -> Ids:
        """0 where v was never seen, else 1 + log2 of its count, rounded down."""
        seen = self.before[before]
        return np.where(seen > 0, np.log2(np.maximum(seen, 1)).astype(np.int64) + 1, 0)


def _fitted_weights(counts: Counts, held_out: Sequence[Sequence[int]]) -> Floats:
    """The bigram's weight for each bucket, the most likely one on `held_out`; 0 in the bucket of the never seen."""
    before = np.concatenate([np.asarray(ids[:-1], np.int64) for ids in held_out])
    words = np.concatenate([np.asarray(ids[1:], np.int64) for ids in held_out])
    bucket, pair, single = counts.bucket(before), counts.bigram(before, words), counts.unigram(words)
    weights = np.full(64, 0.5)
    weights[0] = 0.0
    members = np.maximum(np.bincount(bucket, minlength=64), 1)
    for _ in range(EM_ROUNDS):
        mine = weights[bucket] * pair
        share = mine / (mine + (1 - weights[bucket]) * single)
        fitted = np.bincount(bucket, share, minlength=64) / members
        weights = np.where(np.bincount(bucket, minlength=64) > 0, np.minimum(fitted, 1 - 1e-6), weights)
    return weights


def _bits(counts: Counts, weights: Floats, ids: Sequence[int]) -> tuple[float, float]:
    before, words = np.asarray(ids[:-1], np.int64), np.asarray(ids[1:], np.int64)
    single, weight = counts.unigram(words), weights[counts.bucket(before)]
    both = weight * counts.bigram(before, words) + (1 - weight) * single
    return float(-np.log2(single).sum()), float(-np.log2(both).sum())
