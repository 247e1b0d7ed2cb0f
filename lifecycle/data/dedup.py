"""Exact copies, by 128-bit digests of their texts; near_duplicates.py finds those that differ."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.order import U64

# Among 1e10 different texts two share a digest with a chance of 1 in 7e18 (n^2 / 2^129), also against an adversary.
DIGEST_BYTES = 16

ROWS_AT_A_TIME = 2**16  # they fit a processor's cache


def digests(texts: Iterable[bytes]) -> U64:
    """Shape (texts, 2): the digest of each."""
    joined = b"".join([blake2b(text, digest_size=DIGEST_BYTES).digest() for text in texts])
    return np.frombuffer(joined, "<u8").reshape(-1, 2)


def first_copies(digests: U64, *, rows_at_a_time: int = ROWS_AT_A_TIME) -> NDArray[np.int64]:
    """For each row the number of the first equal one: its own number when it is new.

    Linear in time, and 34 bytes a row of memory at the peak, 16 of which are the digests; these may be a mapped file.
    Equal digests start with equal bits: rows are grouped by these, by counting, and one group sorted at a time.
    """
    bits = min(16, max(0, (len(digests) - 1) // rows_at_a_time).bit_length())
    starts = np.zeros(len(digests), np.uint16)
    if bits:
        np.right_shift(digests[:, 0], np.uint64(64 - bits), out=starts, casting="unsafe")
    rows = np.argsort(starts, kind="stable")  # numpy counts 16-bit integers instead of comparing them
    ends = np.cumsum(np.bincount(starts, minlength=1 << bits))
    del starts
    first = np.empty(len(digests), np.int64)
    for group in np.split(rows, ends[:-1]):
        first[group] = group[_first_of_equals(digests[group])]
    return first


def _first_of_equals(digests: U64) -> NDArray[np.int64]:
    high, low = digests[:, 0], digests[:, 1]
    order = np.argsort(high)
    equal = high[order[1:]] == high[order[:-1]]
    if (equal & (low[order[1:]] != low[order[:-1]])).any():  # two digests that share a half
        order = np.lexsort((low, high))
        equal = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(order)), bool), ~equal]))
    first = np.empty(len(order), np.int64)
    first[order] = np.repeat(np.minimum.reduceat(order, starts), np.diff(starts, append=len(order)))
    return first
