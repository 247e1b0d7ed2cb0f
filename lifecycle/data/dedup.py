"""Exact and near duplicates: which documents say the same thing, and which one of them stays."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle import progress
from lifecycle.data.order import U64, hash64, mix64
from lifecycle.data.words import Grams, WordTable

# Shingles hashed at a time: it bounds the temporary arrays. 2^13 to 2^17 take the same time, one big array 15 % more.
CHUNK_SHINGLES = 2**15


class NearDuplicates(BaseModel):
    """MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4); candidates are verified."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shingle_words: int = Field(5, ge=1, description="Words per shingle; 5 as in FineWeb (Penedo et al. 2024).")
    bands: int = Field(14, ge=1, description="14 bands of 8 rows find 92 % of pairs at Jaccard .80, 98.8 % at .85.")
    rows_per_band: int = Field(8, ge=1)
    min_jaccard: float = Field(
        0.75, gt=0, le=1, description="Exact Jaccard of the shingle sets from which on two documents are duplicates."
    )


class Clusters(NamedTuple):
    """For each text the smallest index in its cluster (its own when it has no duplicate), and the pairs behind it."""

    cluster: NDArray[np.int64]
    verified_pairs: int
    candidate_pairs: int


def first_copies(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first one with the same bytes: its own index when it is new."""
    first: dict[bytes, int] = {}
    return [
        first.setdefault(hashlib.blake2b(text.encode(), digest_size=16).digest(), i) for i, text in enumerate(texts)
    ]


def near_duplicate_clusters(words: WordTable, rule: NearDuplicates) -> Clusters:
    """Texts joined wherever two share enough shingles. The result does not depend on the order of the bands."""
    shingles = words.shingles(rule.shingle_words)
    texts, starts = np.unique(shingles.owners, return_index=True)
    candidates = _candidates(_signatures(shingles, starts, rule), texts, rule)
    sets = _ShingleSets(shingles, len(words.lengths))
    cluster = np.arange(len(words.lengths))
    verified = 0
    for left, right in candidates:
        if sets.jaccard(left, right) >= rule.min_jaccard:
            verified += 1
            _join(cluster, left, right)
    return Clusters(np.array([_root(cluster, i) for i in range(len(cluster))]), verified, len(candidates))


def _signatures(shingles: Grams, starts: NDArray[np.int64], rule: NearDuplicates) -> U64:
    """The minimum of each of `bands * rows` hash functions over each text's shingles, shape (texts, functions)."""
    functions = rule.bands * rule.rows_per_band
    seeds = mix64(np.arange(2 * functions, dtype=np.uint64) + np.uint64(hash64("minhash")))
    factors, offsets = seeds[:functions] | np.uint64(1), seeds[functions:]
    signatures = np.empty((len(starts), functions), np.uint64)
    ends = np.append(starts[1:], len(shingles.hashes))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + CHUNK_SHINGLES, side="right")))
        hashes = shingles.hashes[starts[first] : ends[last - 1]]
        within = starts[first:last] - starts[first]
        for function in range(functions):  # multiply-shift: the high bits, which decide a minimum, see every bit
            np.minimum.reduceat(
                hashes * factors[function] + offsets[function], within, out=signatures[first:last, function]
            )
        progress.report(last, len(starts), "documents", "near duplicates")
        first = last
    return signatures


def _candidates(signatures: U64, texts: NDArray[np.int64], rule: NearDuplicates) -> list[tuple[int, int]]:
    """Pairs that agree in all rows of a band. In a bucket each text meets the first and the one before it, not all:
    a boilerplate bucket of k texts costs 2k comparisons and not k * k."""
    pairs = [np.empty((0, 2), np.int64)]
    for band in range(rule.bands):
        rows = signatures[:, band * rule.rows_per_band : (band + 1) * rule.rows_per_band]
        keys = np.zeros(len(rows), np.uint64)
        for column in rows.T:
            keys = mix64(keys ^ column)
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        bucket_start = np.arange(len(order))
        bucket_start[same] = 0
        bucket_start = np.maximum.accumulate(bucket_start)
        partners = np.concatenate([bucket_start[same], same - 1])
        pairs.append(np.stack([texts[order[partners]], texts[order[np.tile(same, 2)]]], axis=1))
    found = np.unique(np.concatenate(pairs), axis=0)
    return [(int(left), int(right)) for left, right in found]


class _ShingleSets:
    """The set of shingles of a text, made when first asked for: most texts are in no pair."""

    def __init__(self, shingles: Grams, texts: int) -> None:
        self.hashes = shingles.hashes
        self.bounds = np.searchsorted(shingles.owners, np.arange(texts + 1))
        self.sets: dict[int, U64] = {}

    def jaccard(self, left: int, right: int) -> float:
        a, b = self._of(left), self._of(right)
        both = len(np.intersect1d(a, b, assume_unique=True))
        return both / (len(a) + len(b) - both)

    def _of(self, text: int) -> U64:
        if text not in self.sets:
            self.sets[text] = np.unique(self.hashes[self.bounds[text] : self.bounds[text + 1]])
        return self.sets[text]


def _root(cluster: NDArray[np.int64], text: int) -> int:
    while cluster[text] != text:
        cluster[text] = cluster[cluster[text]]
        text = int(cluster[text])
    return text


def _join(cluster: NDArray[np.int64], left: int, right: int) -> None:
    """The smaller index becomes the root, whatever the order of the pairs."""
    low, high = sorted((_root(cluster, left), _root(cluster, right)))
    cluster[high] = low


def best_of_each(cluster: Iterable[int], texts: Sequence[str]) -> dict[int, int]:
    """Cluster -> the text that stays: the longest, and the first of several as long."""
    best: dict[int, int] = {}
    for text, root in enumerate(map(int, cluster)):
        held = best.setdefault(root, text)
        if len(texts[text]) > len(texts[held]):
            best[root] = text
    return best
