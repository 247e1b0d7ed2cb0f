"""What near-duplicate search needs of a text: its band keys, and for the few texts in question its set of shingles.

Small inputs take numpy, big ones compiled loops; the results are the same bit for bit.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.order import U64, hash64, mix64
from lifecycle.data.words import BASE, WORD, WordTable

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

# Loading numba and its cached code takes 1 s, about what numpy needs for this much text (compiling them once: 10 s).
COMPILED_FROM_CHARACTERS = 16 * 2**20
BLOCK_CHARACTERS = 2**20  # texts handled at a time: bounds the temporary arrays
CHUNK_SHINGLES = 2**15  # the same for numpy; 2^13 to 2^17 take the same time, one big array 15 % more

# Lower case of these depends on what stands beside them, or is two characters: Python does it for the whole text.
UNEVEN_LOWER_CASE = "İΣ"


class NearDuplicates(BaseModel):
    """MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4); candidates are verified."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shingle_words: int = Field(5, ge=1, description="Words per shingle; 5 as in FineWeb (Penedo et al. 2024).")
    bands: int = Field(
        14, ge=1, le=255, description="14 bands of 8 rows find 92 % of pairs at Jaccard .80, 98.8 % at .85."
    )
    rows_per_band: int = Field(8, ge=1)
    min_jaccard: float = Field(
        0.75, gt=0, le=1, description="Exact Jaccard of the shingle sets from which on two documents are duplicates."
    )


class ShingleSets(NamedTuple):
    """Distinct shingles, sorted, of one text after the other: `sizes[i]` of `hashes` belong to text i."""

    hashes: U64
    sizes: I64


def band_keys(texts: Iterable[str], rule: NearDuplicates, *, compiled: bool) -> Iterator[U64]:
    """Blocks of shape (texts, bands): texts that agree in a key agree in all minima of that band. 0: no words.

    Key = mix of `rows_per_band` minima; minimum f is over (a_f * x + b_f) mod 2^32 for x the high half of each
    shingle's hash. Multiply-add with odd a is a permutation (Bohman, Cooper and Frieze 2000, "Min-wise independent
    linear permutations"), and the x it permutes are themselves hashes.
    """
    factors, offsets = _permutations(rule)
    for block in blocks(texts):
        if compiled:
            from lifecycle.data import dedup_kernels  # imports numba

            words, counts = hashed_words(block)
            yield dedup_kernels.band_keys(
                words, counts, rule.shingle_words, BASE, factors, offsets, rule.bands, rule.rows_per_band
            )
        else:
            yield _band_keys(block, rule, factors, offsets)


def shingle_sets(texts: Iterable[str], rule: NearDuplicates, *, compiled: bool) -> Iterator[ShingleSets]:
    """The shingles of every text, a block of texts at a time."""
    for block in blocks(texts):
        if compiled:
            from lifecycle.data import dedup_kernels  # imports numba

            words, counts = hashed_words(block)
            hashes, sizes = np.empty(len(words), np.uint64), np.empty(len(counts), np.int64)
            written = dedup_kernels.shingle_hashes(words, counts, rule.shingle_words, BASE, hashes, sizes)
            yield ShingleSets(hashes[:written], sizes)
        else:
            shingles = WordTable(block).shingles(rule.shingle_words)
            order = np.lexsort((shingles.hashes, shingles.owners))
            hashes, owners = shingles.hashes[order], shingles.owners[order]
            new = np.ones(len(hashes), bool)
            new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
            yield ShingleSets(hashes[new], np.bincount(owners[new], minlength=len(block)).astype(np.int64))


def pays_to_compile(texts: Iterable[str]) -> bool:
    """Whether so much text is faster with compiled loops: always, once they are loaded."""
    return "lifecycle.data.dedup_kernels" in sys.modules or sum(map(len, texts)) >= COMPILED_FROM_CHARACTERS


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about BLOCK_CHARACTERS."""
    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text)
        characters += len(text) + 1
        if characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _permutations(rule: NearDuplicates) -> tuple[U32, U32]:
    functions = rule.bands * rule.rows_per_band
    seeds = mix64(np.arange(2 * functions, dtype=np.uint64) + np.uint64(hash64("minhash"))).astype(np.uint32)
    return seeds[:functions] | np.uint32(1), seeds[functions:]


def _band_keys(texts: Sequence[str], rule: NearDuplicates, factors: U32, offsets: U32) -> U64:
    shingles = WordTable(texts).shingles(rule.shingle_words)
    owners, starts = np.unique(shingles.owners, return_index=True)
    values = (shingles.hashes >> np.uint64(32)).astype(np.uint32)
    minima = np.empty((len(factors), len(starts)), np.uint32)
    ends = np.append(starts[1:], len(values))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + CHUNK_SHINGLES, side="right")))
        chunk = values[starts[first] : ends[last - 1]]
        within = starts[first:last] - starts[first]
        for function, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
            np.minimum.reduceat(chunk * factor + offset, within, out=minima[function, first:last])
        first = last
    keys = np.zeros((len(texts), rule.bands), np.uint64)
    for band in range(rule.bands):
        key = np.zeros(len(starts), np.uint64)
        for row in minima[band * rule.rows_per_band : (band + 1) * rule.rows_per_band]:
            key = mix64(key ^ row)
        keys[owners, band] = np.maximum(key, np.uint64(1))
    return keys


def hashed_words(texts: Sequence[str]) -> tuple[U64, I64]:
    from lifecycle.data import dedup_kernels  # imports numba

    parts = [_utf8(text) for text in texts]
    counts = np.empty(len(parts), np.int64)
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=bounds[1:])
    data = np.frombuffer(b"".join(parts), np.uint8)
    hashes = np.empty(len(data) // 2 + len(parts), np.uint64)  # a word is a byte or more, and one between two words
    return hashes[: dedup_kernels.word_hashes(data, bounds, folded_characters(), hashes, counts)], counts


def _utf8(text: str) -> bytes:
    if text.isascii():
        return text.encode()
    if any(character in text for character in UNEVEN_LOWER_CASE):
        text = text.lower()
    return text.encode("utf-8", "surrogatepass")


@cache
def folded_characters() -> U32:
    """For each code point its lower case, or 0 where words.WORD sees no part of a word."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    for uneven in UNEVEN_LOWER_CASE:  # never met: _utf8 has replaced them
        characters = characters.replace(uneven, "\0")
    lower = characters.lower()
    folded = np.zeros(len(characters), np.uint32)
    codes = np.frombuffer(lower.encode("utf-32-le", "surrogatepass"), np.uint32)
    for run in WORD.finditer(lower):
        folded[run.start() : run.end()] = codes[run.start() : run.end()]
    return folded
