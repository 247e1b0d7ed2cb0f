"""The loop that merges the bytes of a piece to ids, compiled."""

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.bpe_kernels import MAX_PIECE_BYTES, Integer
from lifecycle.data.jit import compiled

NO_RULE = np.uint64(0xFFFFFFFFFFFFFFFF)
NEVER = 1 << 60


@compiled
def _rule(left: int, right: int, keys: NDArray[np.uint64], mask: int) -> Integer:
    """Where the merge of these two ids is in the table of merges, or -1."""
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    slot = np.int64(((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & np.uint64(mask))
    while keys[slot] != NO_RULE:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return -1


@compiled
def fill_rules(
    lefts: NDArray[np.int64],
    rights: NDArray[np.int64],
    merges: NDArray[np.int64],
    keys: NDArray[np.uint64],
    numbers: NDArray[np.int64],
) -> None:
    """Enter that `lefts[i]` and `rights[i]` make merge `merges[i]` in an empty table, its length a power of two."""
    mask = len(keys) - 1
    for pair in range(len(lefts)):
        key = (np.uint64(lefts[pair]) << np.uint64(32)) | np.uint64(rights[pair])
        slot = np.int64(((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & np.uint64(mask))
        while keys[slot] != NO_RULE:
            slot = (slot + 1) & mask
        keys[slot], numbers[slot] = key, merges[pair]


@compiled
def merge_pieces(
    pool: NDArray[np.uint8],
    starts: NDArray[np.int64],
    byte_ids: NDArray[np.int64],
    keys: NDArray[np.uint64],
    numbers: NDArray[np.int64],
    results: NDArray[np.int64],
    ids: NDArray[np.uint32],
    ends: NDArray[np.int64],
) -> int:
    """Write the ids of the pieces `pool[starts[i]:starts[i + 1]]` and where each ends; return how many in all.

    Again and again the pair with the earliest merge, and of several the leftmost, becomes one (Sennrich et al. 2016,
    https://arxiv.org/abs/1508.07909, algorithm 1).
    """
    written, mask = 0, len(keys) - 1
    symbols, rules = np.empty(MAX_PIECE_BYTES, np.int64), np.empty(MAX_PIECE_BYTES, np.int64)
    for piece in range(len(ends)):
        size = starts[piece + 1] - starts[piece]
        for i in range(size):
            symbols[i] = byte_ids[pool[starts[piece] + i]]
        for i in range(size - 1):
            slot = _rule(symbols[i], symbols[i + 1], keys, mask)
            rules[i] = numbers[slot] if slot >= 0 else NEVER
        while size > 1:
            best = 0
            for i in range(1, size - 1):
                if rules[i] < rules[best]:
                    best = i
            if rules[best] == NEVER:
                break
            symbols[best] = results[rules[best]]
            size -= 1
            for i in range(best + 1, size):
                symbols[i] = symbols[i + 1]
                rules[i] = rules[i + 1]
            for i in range(max(best - 1, 0), min(best + 1, size - 1)):
                slot = _rule(symbols[i], symbols[i + 1], keys, mask)
                rules[i] = numbers[slot] if slot >= 0 else NEVER
        for i in range(size):
            ids[written] = symbols[i]
            written += 1
        ends[piece] = written
    return written
