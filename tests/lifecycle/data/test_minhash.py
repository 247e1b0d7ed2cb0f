"""Compiled loops against numpy, and the words they see against the regular expression."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.data import minhash
from lifecycle.data.minhash import NearDuplicates, band_keys, hashed_words, shingle_sets
from lifecycle.data.words import WordTable, hash_word

RULE = NearDuplicates(bands=3, rows_per_band=2)


def keys(texts: list[str], *, compiled: bool) -> np.ndarray:
    return np.concatenate(list(band_keys(texts, RULE, compiled=compiled)))


def assert_twins_agree(texts: list[str]) -> None:
    words, counts = hashed_words(texts)
    table = WordTable(texts)
    assert np.array_equal(words, table.hashes)
    assert np.array_equal(counts, table.lengths)
    assert np.array_equal(keys(texts, compiled=True), keys(texts, compiled=False))
    twins = zip(*(shingle_sets(texts, RULE, compiled=compiled) for compiled in (True, False)), strict=True)
    for left, right in twins:
        assert np.array_equal(left.hashes, right.hashes)
        assert np.array_equal(left.sizes, right.sizes)


def test_every_character_of_unicode_is_in_the_same_words():
    """Also the ones whose lower case is two characters, and the halves of surrogate pairs."""
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    texts = [
        " ".join(f"a{c}b {c}" for c in characters[start : start + 512]) for start in range(0, len(characters), 512)
    ]
    words, counts = hashed_words(texts)
    table = WordTable(texts)
    assert np.array_equal(counts, table.lengths)
    assert np.array_equal(words, table.hashes)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from("abZ 9_.'éÉİΣσςß語\ud800\0\n𝔘"), max_size=60), min_size=1, max_size=6))
def test_compiled_loops_and_numpy_see_the_same(texts):
    assert_twins_agree(texts)


def test_blocks_and_chunks_change_nothing(monkeypatch):
    draw = random.Random(5)
    texts = [" ".join(f"w{draw.randrange(50)}" for _ in range(draw.randrange(120))) for _ in range(200)]
    whole = keys(texts, compiled=False)
    assert_twins_agree(texts)
    monkeypatch.setattr(minhash, "BLOCK_CHARACTERS", 700)
    monkeypatch.setattr(minhash, "CHUNK_SHINGLES", 90)
    assert_twins_agree(texts)
    assert np.array_equal(whole, keys(texts, compiled=False))


def test_a_word_is_hashed_eight_bytes_at_a_time():
    assert len({hash_word("a" * length) for length in range(1, 40)}) == 39
    assert hash_word("abcdefgh") != hash_word("abcdefg")
    assert np.array_equal(WordTable(["One TWO two"]).hashes, [hash_word(word) for word in ("one", "two", "two")])


@pytest.mark.parametrize("jaccard", [0.6, 0.8])
def test_a_band_is_shared_as_often_as_the_theory_says(jaccard):
    """Two texts with Jaccard J share a band of r rows with chance J^r (Mining of Massive Datasets, 3.4.2)."""
    rule = NearDuplicates(shingle_words=1, bands=50, rows_per_band=4)
    shared = []
    for number in range(60):
        both = round(200 * jaccard)
        words = [f"t{number}w{i}" for i in range(200)]
        alone = (200 - both) // 2
        left, right = words[: both + alone], words[:both] + words[both + alone :]
        a, b = next(band_keys([" ".join(left), " ".join(right)], rule, compiled=False))
        shared.append((a == b).mean())
    # 3000 draws; draws of one text are not independent, so the margin is four times a binomial's.
    assert np.mean(shared) == pytest.approx(jaccard**4, abs=0.04)
