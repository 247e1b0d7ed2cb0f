"""What kind of character each code point is, as a table of bits; and texts as one buffer of bytes to look up in it."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# `str.isspace`, line end of `str.splitlines`, `str.isalpha`, makes a word prose, bullet, ends a sentence, Unicode's Lu.
SPACE, BREAK, ALPHABETIC, PROSE, BULLET, TERMINAL, UPPER = (1 << bit for bit in range(7))
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

Classes = NDArray[np.uint8]


@functools.lru_cache(maxsize=8)
def classes_of(symbols: str | None, bullets: str, terminals: str) -> Classes:
    """The bits of every code point. `symbols` make no word prose by themselves; None: all but letters and digits."""
    points = np.arange(0x110000, dtype=np.uint32).view("U1")
    table = np.zeros(0x110000, np.uint8)
    table[np.strings.isspace(points)] |= SPACE
    table[np.strings.isalpha(points)] |= ALPHABETIC
    table[np.strings.isalnum(points) if symbols is None else ~np.isin(points, list(symbols))] |= PROSE
    upper = [point for point in np.flatnonzero(np.strings.isupper(points)) if unicodedata.category(chr(point)) == "Lu"]
    table[upper] |= UPPER
    for characters, bit in ((LINE_ENDS, BREAK), (bullets, BULLET), (terminals, TERMINAL)):
        table[[ord(character) for character in characters]] |= bit
    return table


class Packed(NamedTuple):
    """Texts as UTF-8 in one buffer: text i is `buffer[offsets[i]:offsets[i + 1]]`."""

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def pack(texts: Sequence[str]) -> Packed:
    """The bytes of texts, one after the other."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return Packed(np.frombuffer(b"".join(encoded), np.uint8), offsets)
