"""One pass over the bytes of a document: its words and lines as hashes, and all that can be counted without a table.

Equal words, lines and n-grams are told by 64-bit hashes: in a document of 10^6 words, two different n-grams are taken
for the same with a probability below 10^-7.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.filters.characters import ALPHABETIC, BREAK, BULLET, PROSE, SPACE, TERMINAL, Classes
from lifecycle.data.jit import compiled

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]
U64 = NDArray[np.uint64]

FNV_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits (Fowler, Noll, Vo), then SplitMix64's finaliser
FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: each word moves the hash of an n-gram whatever its place
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_ONE, _SIX_BITS = np.uint64(1), np.uint64(63)
NEWLINE, _RETURN, _HASH_SIGN, _DOT, _ELLIPSIS = 10, 13, 35, 46, 0x2026


@compiled
def mixed(h: np.uint64) -> np.uint64:
    """Well mixed bits of a word's or a line's hash."""
    h = (h ^ (h >> _S30)) * _MIX_1
    h = (h ^ (h >> _S27)) * _MIX_2
    return h ^ (h >> _S31)


@compiled
def word_hash(word: Bytes) -> np.uint64:
    """The hash under which the scan knows a word."""
    h = FNV_OFFSET
    for byte in word:
        h = (h ^ np.uint64(byte)) * FNV_PRIME
    return mixed(h)


@compiled
def point_at(buffer: Bytes, at: int) -> tuple[Any, int]:
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
    word, word_flags, word_length = FNV_OFFSET, 0, 0
    line, line_length, blank, ends, indent, extent = FNV_OFFSET, 0, True, False, 0, 0
    fresh, opened, dots, tail, returned = True, False, 0, False, False
    stop_bits = np.uint64(0)
    for stop in stop_words:
        stop_bits |= _ONE << (stop & _SIX_BITS)
    code: Any
    flags: Any
    word_ends[0] = 0
    at = lo
    while at <= hi:
        start = at
        at_end = at == hi
        if at_end:  # the end of a text ends its last word and its last line
            code, flags, at = NEWLINE, SPACE | BREAK, at + 1
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
                word, word_flags, word_length = FNV_OFFSET, 0, 0
            dots = 0
            if flags & BREAK:
                if (opened or not at_end) and not (code == NEWLINE and returned):
                    breaks += 1
                    trailing += tail
                fresh, opened, tail = True, False, False
            else:
                opened = True
            returned = code == _RETURN
            if code == NEWLINE:
                newlines += 1
                if line_length:
                    line_hashes[lines] = mixed(line)
                    line_lengths[lines] = -1 - line_length if blank else line_length
                    lines += 1
                    if not blank:
                        filled += 1
                        ended += ends
                        short += (extent - indent if strip_lines else line_length) <= short_line
                line, line_length, blank, ends = FNV_OFFSET, 0, True, False
                continue
        else:
            first, last = min(first, start), at
            for index in range(start, at):
                word = (word ^ np.uint64(buffer[index])) * FNV_PRIME
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
            line = (line ^ np.uint64(buffer[index])) * FNV_PRIME
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
