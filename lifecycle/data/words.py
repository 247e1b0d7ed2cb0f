"""Texts as arrays of word hashes: what near-duplicate search and decontamination both look at."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.order import U64

# Letters and digits of any script, lower case: punctuation, markup and layout do not hide a copy
# (Brown et al. 2020, appendix C, normalise the same way).
WORD = re.compile(r"[^\W_]+")
BASE = np.uint64(0x9E3779B97F4A7C15 | 1)  # any odd number keeps the rolling hash a bijection in each word
MASK = 2**64 - 1


def split_words(text: str) -> list[str]:
    """The words of a text, as they are compared."""
    return WORD.findall(text.lower())


class Grams(NamedTuple):
    """Hashes of word n-grams, each with the index of the text it is from."""

    hashes: U64
    owners: NDArray[np.int64]


class WordTable:
    """The words of N texts in one flat array: text i owns `hashes[offsets[i]:offsets[i + 1]]`."""

    def __init__(self, texts: Iterable[str]) -> None:
        known = _WordHashes()
        parts, lengths = [], []
        for text in texts:
            words = split_words(text)
            parts.append(np.fromiter(map(known.__getitem__, words), dtype=np.uint64, count=len(words)))
            lengths.append(len(words))
        self.hashes: U64 = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        self.lengths: NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self.offsets: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def windows(self, length: int) -> Grams:
        """Every run of `length` words that lies within one text, in order."""
        owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
        starts = np.flatnonzero(self.offsets[owners + 1] - np.arange(len(owners)) >= length)
        return Grams(self._rolled(length, starts), owners[starts])

    def whole(self, length: int) -> Grams:
        """The texts of exactly `length` words, each as one gram."""
        owners = np.flatnonzero(self.lengths == length)
        return Grams(self._rolled(length, self.offsets[owners]), owners)

    def shingles(self, length: int) -> Grams:
        """Windows of `length` words; a shorter text is one shingle, a text without words none. Sorted by owner."""
        parts = [self.windows(length), *(self.whole(shorter) for shorter in range(1, length))]
        hashes = np.concatenate([part.hashes for part in parts])
        owners = np.concatenate([part.owners for part in parts])
        order = np.argsort(owners, kind="stable")
        return Grams(hashes[order], owners[order])

    def _rolled(self, length: int, starts: NDArray[np.int64]) -> U64:
        """Polynomial hash, modulo 2^64, of the `length` words from each start."""
        rolled = np.zeros(len(starts), np.uint64)
        for step in range(length):
            rolled *= BASE
            rolled += self.hashes[starts + step]
        return rolled


class _WordHashes(dict[str, int]):
    """Word -> its hash; each distinct word is hashed once."""

    def __missing__(self, word: str) -> int:
        value = self[word] = hash_word(word)
        return value


def hash_word(word: str) -> int:
    """64 bits of a word: its UTF-8 bytes, eight at a time, each mixed into what came before (order.mix64).

    Simple enough for a compiled loop to do the same. Who wants two words to collide can make them do so: nothing that
    must withstand an attacker hangs on it, equal texts are found by comparing them.
    """
    state = 0
    data = word.encode("utf-8", "surrogatepass")
    for start in range(0, len(data), 8):
        state ^= int.from_bytes(data[start : start + 8], "big")
        state = (state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state
