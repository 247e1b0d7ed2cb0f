"""Inner loops of duplicate search and decontamination as machine code; big inputs import this (see jit.py).

Every function here has a twin in numpy or Python with identical results (minhash.py, clusters.py, decontaminate.py);
the tests hold each pair together.
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lifecycle.data.clusters import join_pairs as join_pairs_in_python
from lifecycle.data.jit import compiled
from lifecycle.data.order import U64

U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
I64: TypeAlias = NDArray[np.int64]
SIEVE_SHIFT = 24  # which bits of a gram's hash choose its slot in the sieve

join_pairs = compiled(join_pairs_in_python)


@njit(inline="always")
def _mix(value: np.uint64) -> np.uint64:
    """lifecycle.data.order.mix64 of one value."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def word_hashes(data: U8, bounds: I64, folded: U32, hashes: U64, counts: I64) -> int:
    """Write the hash of every word, and for each text how many it has; return how many in all.

    `data` is UTF-8, text i at `bounds[i]:bounds[i + 1]`. `folded[c]` is the lower case of character c, 0 for what is
    part of no word. A hash takes the word's bytes eight at a time, as words.hash_word does.
    """
    at = 0
    for text in range(len(counts)):
        first = at
        i, end = bounds[text], bounds[text + 1]
        state, chunk, size = np.uint64(0), np.uint64(0), 0
        while i < end:
            byte = data[i]
            if byte < 128:
                i += 1
                low = folded[byte]
                if low:
                    chunk = (chunk << np.uint64(8)) | np.uint64(low)
                    size += 1
                    if size & 7 == 0:
                        state, chunk = _mix(state ^ chunk), np.uint64(0)
                    continue
            else:
                if byte < 0xE0:
                    width, code = 2, np.uint32(byte & 0x1F)
                elif byte < 0xF0:
                    width, code = 3, np.uint32(byte & 0x0F)
                else:
                    width, code = 4, np.uint32(byte & 0x07)
                for step in range(1, width):
                    code = np.uint32((code << np.uint32(6)) | np.uint32(data[i + step] & 0x3F))
                i += width
                low = folded[code]
                if low:
                    if low < 0x80:
                        width, lead = 1, np.uint32(0)
                    elif low < 0x800:
                        width, lead = 2, np.uint32(0xC0)
                    elif low < 0x10000:
                        width, lead = 3, np.uint32(0xE0)
                    else:
                        width, lead = 4, np.uint32(0xF0)
                    for step in range(width):
                        part = np.uint32(low >> np.uint32(6 * (width - 1 - step)))
                        follows = (part & np.uint32(0x3F)) | np.uint32(0x80)
                        part = np.uint32(part | lead) if step == 0 else np.uint32(follows)
                        chunk = (chunk << np.uint64(8)) | np.uint64(part)
                        size += 1
                        if size & 7 == 0:
                            state, chunk = _mix(state ^ chunk), np.uint64(0)
                    continue
            if size:
                hashes[at] = _mix(state ^ chunk) if size & 7 else state
                at += 1
                state, chunk, size = np.uint64(0), np.uint64(0), 0
        if size:
            hashes[at] = _mix(state ^ chunk) if size & 7 else state
            at += 1
        counts[text] = at - first
    return at


@compiled
def band_keys(
    words: U64, counts: I64, shingle: int, base: np.uint64, factors: U32, offsets: U32, bands: int, rows: int
) -> U64:
    """minhash.band_keys for texts given as word hashes. Four shingles a turn keep the minima in registers longer."""
    functions = bands * rows
    minima = np.empty(functions, np.uint32)
    four = np.empty(4, np.uint32)
    keys = np.zeros((len(counts), bands), np.uint64)
    at = 0
    for text in range(len(counts)):
        if counts[text] == 0:
            continue
        length = min(shingle, counts[text])
        windows = counts[text] - length + 1
        minima[:] = np.uint32(0xFFFFFFFF)
        for first in range(0, windows, 4):
            for step in range(4):
                start = at + min(first + step, windows - 1)  # the last one again, where there are fewer than four
                rolled = np.uint64(0)
                for word in range(length):
                    rolled = rolled * base + words[start + word]
                four[step] = np.uint32(rolled >> np.uint64(32))
            a, b, c, d = four[0], four[1], four[2], four[3]
            for f in range(functions):
                left = min(np.uint32(a * factors[f] + offsets[f]), np.uint32(b * factors[f] + offsets[f]))
                right = min(np.uint32(c * factors[f] + offsets[f]), np.uint32(d * factors[f] + offsets[f]))
                minima[f] = min(minima[f], min(left, right))
        at += counts[text]
        for band in range(bands):
            key = np.uint64(0)
            for row in range(rows):
                key = _mix(key ^ np.uint64(minima[band * rows + row]))
            keys[text, band] = max(key, np.uint64(1))
    return keys


@compiled
def shingle_hashes(words: U64, counts: I64, shingle: int, base: np.uint64, out: U64, sizes: I64) -> int:
    """Write each text's distinct shingles, sorted, one text after the other; return how many in all."""
    at, written = 0, 0
    for text in range(len(counts)):
        sizes[text] = 0
        if counts[text] == 0:
            continue
        length = min(shingle, counts[text])
        windows = counts[text] - length + 1
        rolled = np.empty(windows, np.uint64)
        for first in range(windows):
            value = np.uint64(0)
            for word in range(length):
                value = value * base + words[at + first + word]
            rolled[first] = value
        at += counts[text]
        rolled.sort()
        first_written = written
        for i in range(windows):
            if i == 0 or rolled[i] != rolled[i - 1]:
                out[written] = rolled[i]
                written += 1
        sizes[text] = written - first_written
    return written


@compiled
def common_counts(values: U64, bounds: I64, left: I64, right: I64) -> I64:
    """For each pair of sorted sets, set s at `values[bounds[s]:bounds[s + 1]]`, how many values both hold."""
    common = np.zeros(len(left), np.int64)
    for pair in range(len(left)):
        i, i_end = bounds[left[pair]], bounds[left[pair] + 1]
        j, j_end = bounds[right[pair]], bounds[right[pair] + 1]
        while i < i_end and j < j_end:
            a, b = values[i], values[j]
            common[pair] += a == b
            i += a <= b
            j += b <= a
    return common


@compiled
def first_grams_found(
    words: U64, counts: I64, base: np.uint64, lengths: I64, bounds: I64, hashes: U64, sieve: U8
) -> I64:
    """For each text the index in `hashes` of the first gram it holds, -1 for none: shortest grams first, then by place.

    Grams of `lengths[k]` words are sorted at `hashes[bounds[k]:bounds[k + 1]]`. `sieve` has a 1 at the low bits of
    every gram's hash: one look in it answers for nearly every window.
    """
    found = np.full(len(counts), -1, np.int64)
    mask = np.uint64(len(sieve) - 1)
    at = 0
    for text in range(len(counts)):
        for k in range(len(lengths)):
            length = lengths[k]
            if found[text] >= 0 or counts[text] < length:
                break
            power = np.uint64(1)
            for _ in range(length - 1):
                power = power * base
            value = np.uint64(0)
            for word in range(length - 1):
                value = value * base + words[at + word]
            for last in range(length - 1, counts[text]):
                value = value * base + words[at + last]
                if sieve[(value >> np.uint64(SIEVE_SHIFT)) & mask]:
                    low, high = bounds[k], bounds[k + 1]
                    while low < high:
                        middle = (low + high) >> 1
                        if hashes[middle] < value:
                            low = middle + 1
                        else:
                            high = middle
                    if low < bounds[k + 1] and hashes[low] == value:
                        found[text] = low
                        break
                value = value - power * words[at + last - length + 1]
        at += counts[text]
    return found
