"""One pass over the bytes of a document and one over its words: every number the quality rules ask for.

The same numbers as the `count` of each family, which is the reference; only big inputs come here (see `batch`).
Equal words, lines and n-grams are told by 64-bit hashes: in a document of 10^6 words, two different n-grams are taken
for the same with a probability below 10^-7. Memory: about 60 bytes for each word of the longest document.
"""

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.filters.characters import ALPHABETIC, BREAK, BULLET, PROSE, SPACE, TERMINAL, Classes
from lifecycle.data.jit import compiled

# Columns of a document's row, in the order of the fields of each family's counts (see `batch`).
COLUMNS = 36
GOPHER, REPETITION, FINEWEB = 0, 10, 29

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]
U64 = NDArray[np.uint64]

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits (Fowler, Noll, Vo), then SplitMix64's finaliser
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: each word moves the hash of an n-gram whatever its place
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_ONE, _SIX_BITS = np.uint64(1), np.uint64(63)
_NEWLINE, _RETURN, _HASH_SIGN, _DOT, _ELLIPSIS = 10, 13, 35, 46, 0x2026


@compiled
def mixed(h: np.uint64) -> np.uint64:
    """Well mixed bits of a word's or a line's hash."""
    h = (h ^ (h >> _S30)) * _MIX_1
    h = (h ^ (h >> _S27)) * _MIX_2
    return h ^ (h >> _S31)


@compiled
def word_hash(word: Bytes) -> np.uint64:
    """The hash under which the scan knows a word."""
    h = _FNV_OFFSET
    for byte in word:
        h = (h ^ np.uint64(byte)) * _FNV_PRIME
    return mixed(h)


@compiled
def point_at(buffer: Bytes, at: int) -> tuple[int, int]:
    """The code point that starts at this byte of valid UTF-8, and where the next one starts."""
    lead = np.int64(buffer[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | np.int64(buffer[at + 1] & 0x3F), at + 2
    if lead < 0xF0:
        code = ((lead & 0x0F) << 12) | (np.int64(buffer[at + 1] & 0x3F) << 6)
        return code | np.int64(buffer[at + 2] & 0x3F), at + 3
    code = ((lead & 0x07) << 18) | (np.int64(buffer[at + 1] & 0x3F) << 12)
    return code | (np.int64(buffer[at + 2] & 0x3F) << 6) | np.int64(buffer[at + 3] & 0x3F), at + 4


@compiled
def slot_of(keys: U64, stamps: Int32s, epoch: int, mask: int, key: np.uint64) -> int:
    """Where a key is, or the free slot where it goes: a table is emptied by counting the epoch up."""
    slot = np.int64(key ^ (key >> _S32)) & mask
    while stamps[slot] == epoch and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def scan(
    buffer: Bytes,
    lo: int,
    hi: int,
    classes: Classes,
    stop_words: U64,
    short_line: int,
    strip_lines: bool,
    word_hashes: U64,
    word_ends: Int32s,
    line_hashes: U64,
    line_lengths: Int32s,
    row: Ints,
) -> tuple[int, int, int, int]:
    """Fill the words, the lines and all that needs no table; returns their numbers and the bounds of the stripped text.

    `word_ends[i + 1]` counts the characters of words 0..i. A blank line's length is kept as -1 - length.
    """
    words = prose = prose_characters = alphabetic = stops = hash_signs = ellipses = 0
    breaks = bullets = trailing = 0
    newlines = characters = filled = ended = short = lines = 0
    first, last = hi, lo
    word, word_flags, word_length = _FNV_OFFSET, 0, 0
    line, line_length, blank, ends, indent, extent = _FNV_OFFSET, 0, True, False, 0, 0
    fresh, opened, dots, tail, returned = True, False, 0, False, False
    stop_bits = np.uint64(0)
    for stop in stop_words:
        stop_bits |= _ONE << (stop & _SIX_BITS)
    word_ends[0] = 0
    at = lo
    while at <= hi:
        start = at
        at_end = at == hi
        if at_end:  # the end of a text ends its last word and its last line
            code, flags, at = _NEWLINE, SPACE | BREAK, at + 1
        elif buffer[at] < 0x80:
            code, at = np.int64(buffer[at]), at + 1
            flags = np.int64(classes[code])
        else:
            code, at = point_at(buffer, at)
            flags = np.int64(classes[code])
        characters += 1
        if flags & SPACE:
            if word_length:
                h = mixed(word)
                word_hashes[words] = h
                words += 1
                word_ends[words] = word_ends[words - 1] + word_length
                if word_flags & PROSE:
                    prose += 1
                    prose_characters += word_length
                alphabetic += (word_flags & ALPHABETIC) != 0
                if (stop_bits >> (h & _SIX_BITS)) & _ONE:
                    for index in range(len(stop_words)):
                        if stop_words[index] == h:
                            stops |= 1 << index
                word, word_flags, word_length = _FNV_OFFSET, 0, 0
            dots = 0
            if flags & BREAK:
                if (opened or not at_end) and not (code == _NEWLINE and returned):
                    breaks += 1
                    trailing += tail
                fresh, opened, tail = True, False, False
            else:
                opened = True
            returned = code == _RETURN
            if code == _NEWLINE:
                newlines += 1
                if line_length:
                    line_hashes[lines] = mixed(line)
                    line_lengths[lines] = -1 - line_length if blank else line_length
                    lines += 1
                    if not blank:
                        filled += 1
                        ended += ends
                        short += (extent - indent if strip_lines else line_length) <= short_line
                line, line_length, blank, ends = _FNV_OFFSET, 0, True, False
                continue
        else:
            first, last = min(first, start), at
            for index in range(start, at):
                word = (word ^ np.uint64(buffer[index])) * _FNV_PRIME
            word_length += 1
            word_flags |= flags
            returned, opened = False, True
            if blank:
                blank, indent = False, line_length
            extent = line_length + 1
            if fresh:
                fresh = False
                bullets += (flags & BULLET) != 0
            if code == _DOT:
                dots += 1
                ellipses += dots % 3 == 0
                tail = dots >= 3
            else:
                dots = 0
                tail = code == _ELLIPSIS
                ellipses += tail
                hash_signs += code == _HASH_SIGN
        for index in range(start, at):
            line = (line ^ np.uint64(buffer[index])) * _FNV_PRIME
        line_length += 1
        if not (strip_lines and flags & SPACE):
            ends = (flags & TERMINAL) != 0
    stop_count = 0
    while stops:
        stop_count += stops & 1
        stops >>= 1
    row[0], row[1], row[2], row[3], row[4] = words, prose, prose_characters, alphabetic, stop_count
    row[5], row[6], row[7], row[8], row[9] = hash_signs, ellipses, max(1, breaks), bullets, trailing
    row[10] = row[29] = characters - 1
    row[30], row[31], row[32], row[33], row[35] = words, filled, ended, short, newlines - 1
    return words, lines, first, last


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
    if hi == lo:
        empty = 1
    else:
        empty = np.int64(buffer[lo] == _NEWLINE) + np.int64(buffer[hi - 1] == _NEWLINE)
    row[11] = lines + empty
    row[12] = count + (empty == 2)
    row[13] = characters
    row[34] = filled_characters


@compiled
def repeated_paragraphs(
    buffer: Bytes, lo: int, hi: int, keys: U64, stamps: Int32s, epoch: int, mask: int, row: Ints
) -> None:
    """Paragraphs, as two newlines or more separate them, that occurred before. `lo` and `hi` bound the stripped text."""
    paragraphs = count = characters = 0
    at = lo
    while True:
        h, length = _FNV_OFFSET, 0
        while at < hi and not (buffer[at] == _NEWLINE and at + 1 < hi and buffer[at + 1] == _NEWLINE):
            h = (h ^ np.uint64(buffer[at])) * _FNV_PRIME
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
        while buffer[at] == _NEWLINE:
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
            grams[kept] = grams[index] * _BASE + hashes[position + n - 1]
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


@compiled
def count_documents(
    buffer: Bytes,
    offsets: Ints,
    classes: Classes,
    stop_words: U64,
    short_line: int,
    strip_lines: bool,
    rows: Ints,
    with_ngrams: bool,
) -> None:
    """Fill one row of `rows` for each document. Documents do not know of each other."""
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    most = longest // 2 + 2
    size = 2
    while size < 2 * most:
        size *= 2
    word_hashes, word_ends = np.empty(most, np.uint64), np.empty(most + 1, np.int32)
    line_hashes, line_lengths = np.empty(most, np.uint64), np.empty(most, np.int32)
    keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int32)
    times, firsts, seen = np.empty(size, np.int32), np.empty(size, np.int32), np.zeros(size, np.int32)
    positions, grams, slots = np.empty(most, np.int32), np.empty(most, np.uint64), np.empty(most, np.int32)
    epoch = 0
    for document in range(len(offsets) - 1):
        lo, hi = offsets[document], offsets[document + 1]
        row = rows[document]
        words, lines, first, last = scan(
            buffer,
            lo,
            hi,
            classes,
            stop_words,
            short_line,
            strip_lines,
            word_hashes,
            word_ends,
            line_hashes,
            line_lengths,
            row,
        )
        epoch += 1
        repeated_lines(buffer, lo, hi, line_hashes, line_lengths, lines, keys, stamps, epoch, row)
        epoch += 1
        repeated_paragraphs(buffer, min(first, last), last, keys, stamps, epoch, size - 1, row)
        if with_ngrams:
            epoch = repeated_ngrams(
                words, word_hashes, word_ends, keys, stamps, times, firsts, seen, positions, grams, slots, epoch, row
            )
        if epoch > 2**31 - 64:
            stamps[:] = 0
            seen[:] = 0
            epoch = 0
