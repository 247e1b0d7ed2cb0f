"""Shuffling without state: a permutation that can be asked for any one position, on any machine, at any time.

Not numpy's generators: their streams may change between numpy releases, and an order must outlive an upgrade.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

# Luby and Rackoff 1988 prove four rounds enough for ideal round functions. Ours is one mixing step, and with few bits
# a side four rounds leave visible order; eight cost nothing beside reading a row.
ROUNDS = 8


def mix64(values: U64) -> U64:
    """Each value scrambled into 64 well mixed bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hash64(*parts: str | int) -> int:
    """64 bits that depend on these parts alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def shuffled(positions: Sequence[int] | NDArray[Any], size: int, *key: str | int) -> NDArray[np.int64]:
    """Where each position of 0..size-1 goes under the permutation that `key` names; O(1) for each position asked.

    A Feistel network over the next power of four, walked until it falls below `size` (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains", cycle walking).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    round_keys = np.array([hash64(*key, number) for number in range(ROUNDS)], dtype=np.uint64)
    values = np.asarray(positions, dtype=np.uint64)
    if len(values) and int(values.max()) >= size:
        raise IndexError(f"expected positions below {size}, found {int(values.max())}")
    values = _feistel(values, half, round_keys)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], half, round_keys)
    return values.astype(np.int64)


def _feistel(values: U64, half: int, round_keys: U64) -> U64:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for key in round_keys:
        left, right = right, left ^ (mix64(right ^ key) & mask)
    return (left << shift) | right
