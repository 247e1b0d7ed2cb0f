"""The loop that merges the bytes of a piece to ids, compiled."""

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.bpe_kernels import MAX_PIECE_BYTES, Integer
from lifecycle.data.jit import compiled

NO_RULE = np.uint64(0xFFFFFFFFFFFFFFFF)
NEVER = 1 << 60


@compiled
def _slot(left: int, right: int, keys: NDArray[np.uint64]) -> Integer:
    """Where the merge of these two ids is in a table of merges, or would be."""
    key, mask = (np.uint64(left) << np.uint64(32)) | np.uint64(right), len(keys) - 1
    slot = np.int64(((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & np.uint64(mask))
    while keys[slot] != NO_RULE and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def fill_rules(
    lefts: NDArray[np.int64],
    rights: NDArray[np.int64],
    merges: NDArray[np.int64],
    keys: NDArray[np.uint64],
    numbers: NDArray[np.int64],
) -> None:
    """Enter that `lefts[i]` and `rights[i]` make merge `merges[i]` in an empty table, its length a power of two.

    An empty one holds NO_RULE in `keys` and NEVER in `numbers`.
    """
    for pair in range(len(lefts)):
        slot = _slot(lefts[pair], rights[pair], keys)
        keys[slot] = (np.uint64(lefts[pair]) << np.uint64(32)) | np.uint64(rights[pair])
        numbers[slot] = merges[pair]


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
    written = 0
    symbols, rules = np.empty(MAX_PIECE_BYTES, np.int64), np.empty(MAX_PIECE_BYTES, np.int64)
    for piece in range(len(ends)):
        size = starts[piece + 1] - starts[piece]
        for i in range(size):
            symbols[i] = byte_ids[pool[starts[piece] + i]]
        for i in range(size - 1):
            rules[i] = numbers[_slot(symbols[i], symbols[i + 1], keys)]
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
                rules[i] = numbers[_slot(symbols[i], symbols[i + 1], keys)]
        for i in range(size):
            ids[written] = symbols[i]
            written += 1
        ends[piece] = written
    return written
