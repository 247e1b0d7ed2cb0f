"""What occurs again in a document: lines, paragraphs and n-grams of words, by tables of their hashes."""

from typing import Any

import numpy as np

from lifecycle.data.filters.scanning import BASE, FNV_OFFSET, FNV_PRIME, NEWLINE, U64, Bytes, Int32s, Ints, mixed
from lifecycle.data.jit import compiled

_S32 = np.uint64(32)


@compiled
def slot_of(keys: U64, stamps: Int32s, epoch: int, mask: int, key: np.uint64) -> Any:
    """Where a key is, or the free slot where it goes: a table is emptied by counting the epoch up."""
    slot = np.int64(key ^ (key >> _S32)) & mask
    while stamps[slot] == epoch and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def repeated_lines(
    buffer: Bytes, lo: int, hi: int, hashes: U64, lengths: Int32s, lines: int, keys: U64, stamps: Int32s, epoch: int,
    row: Ints,
) -> None:  # fmt: skip
    """Lines, as runs of newlines separate them, that occurred before; FineWeb asks for those that are not blank."""
    mask = 1
    while mask < 2 * lines:
        mask *= 2
    mask -= 1
    count = characters = filled_characters = 0
    for index in range(lines):
        length = lengths[index] if lengths[index] >= 0 else -1 - lengths[index]
        slot = slot_of(keys, stamps, epoch, mask, hashes[index])
        if stamps[slot] == epoch:
            count += 1
            characters += length
            filled_characters += length if lengths[index] >= 0 else 0
        else:
            stamps[slot] = epoch
            keys[slot] = hashes[index]
    # A newline at the start or the end leaves an empty line there, as it does in a split by a regular expression.
    empty = 1 if hi == lo else (buffer[lo] == NEWLINE) + (buffer[hi - 1] == NEWLINE)
    row[11] = lines + empty
    row[12] = count + (empty == 2)
    row[13] = characters
    row[34] = filled_characters


@compiled
def repeated_paragraphs(
    buffer: Bytes, lo: int, hi: int, keys: U64, stamps: Int32s, epoch: int, mask: int, row: Ints
) -> None:
    """Paragraphs, as two newlines or more separate them, seen before; `lo` and `hi` bound the stripped text."""
    paragraphs = count = characters = 0
    at = lo
    while True:
        h, length = FNV_OFFSET, 0
        while at < hi and not (buffer[at] == NEWLINE and at + 1 < hi and buffer[at + 1] == NEWLINE):
            h = (h ^ np.uint64(buffer[at])) * FNV_PRIME
            length += (buffer[at] & 0xC0) != 0x80  # a continuation byte is no character
            at += 1
        h = mixed(h)
        paragraphs += 1
        slot = slot_of(keys, stamps, epoch, mask, h)
        if stamps[slot] == epoch:
            count += 1
            characters += length
        else:
            stamps[slot] = epoch
            keys[slot] = h
        if at >= hi:
            break
        while buffer[at] == NEWLINE:
            at += 1
    row[14] = paragraphs
    row[15] = count
    row[16] = characters


@compiled
def repeated_ngrams(
    words: int,
    hashes: U64,
    ends: Int32s,
    keys: U64,
    stamps: Int32s,
    times: Int32s,
    firsts: Int32s,
    seen: Int32s,
    positions: Int32s,
    grams: U64,
    slots: Int32s,
    epoch: int,
    row: Ints,
) -> int:
    """The commonest 2- to 4-gram and the characters of repeated 5- to 10-grams; returns the last epoch used.

    A repeated n-gram begins with a repeated (n-1)-gram and is followed by another: only such positions are looked at.
    """
    mask = 1
    while mask < 2 * words:
        mask *= 2
    mask -= 1
    live = words
    for index in range(words):
        positions[index] = index
        grams[index] = hashes[index]
    for n in range(2, 11):
        # Positions that can still hold a repeated n-gram: at n = 2 all, later those of two repeated (n-1)-grams.
        kept = 0
        for index in range(live):
            position = positions[index]
            if position + n > words:
                continue
            if n > 2:
                if times[slots[index]] < 2:
                    continue
                if index + 1 >= live or positions[index + 1] != position + 1 or times[slots[index + 1]] < 2:
                    continue
            positions[kept] = position
            grams[kept] = grams[index] * BASE + hashes[position + n - 1]
            slots[kept] = slots[index]
            kept += 1
        live = kept
        epoch += 1
        best = best_first = 0
        for index in range(live):
            slot = slot_of(keys, stamps, epoch, mask, grams[index])
            if stamps[slot] != epoch:
                stamps[slot] = epoch
                keys[slot] = grams[index]
                times[slot] = 0
                firsts[slot] = positions[index]
            times[slot] += 1
            slots[index] = slot
            if times[slot] > best or (times[slot] == best and firsts[slot] < best_first):
                best, best_first = times[slot], firsts[slot]
        if n <= 4:
            if best < 2 and words >= n:
                best, best_first = 1, 0
            row[17 + n - 2] = best
            row[20 + n - 2] = ends[best_first + n] - ends[best_first] + n - 1 if best else 0
            continue
        characters = free = 0
        for index in range(live):
            position = positions[index]
            slot = slots[index]
            if position < free or times[slot] < 2:
                continue
            if seen[slot] == epoch:
                characters += ends[position + n] - ends[position]
                free = position + n
            else:
                seen[slot] = epoch
        row[23 + n - 5] = characters
    return epoch
