"""Planted items are found, what is flagged is explained, and both searches say the same."""

import random

import pytest

from lifecycle.data.decontaminate import MIN_ITEM_WORDS, NgramRule, found_in, index_items
from lifecycle.data.words import split_words

VOCABULARY = [f"word{number}" for number in range(2_000)]
RULE = NgramRule()


def draw_text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(VOCABULARY, k=words))


@pytest.mark.parametrize("compiled", [False, True])
def test_every_planted_item_is_found_and_nothing_else(compiled):
    draw = random.Random(2)
    items = [draw_text(draw, words) for words in range(MIN_ITEM_WORDS, 45)]
    texts = [draw_text(draw, draw.randrange(20, 200)) for _ in range(3 * len(items))]
    for number, item in enumerate(items):
        texts[3 * number] += f". {item.upper()}!"
    found = found_in(index_items(items, RULE), texts, compiled=compiled)
    assert found == {3 * number: number for number in range(len(items))}


def test_both_searches_flag_the_same_texts_for_the_same_items():
    """Words so few that n-grams of every length repeat all over."""
    draw = random.Random(3)
    items = [" ".join(draw.choices("abcd", k=draw.randrange(3, 30))) for _ in range(400)]
    texts = [" ".join(draw.choices("abcd", k=draw.randrange(40))) for _ in range(1_500)]
    grams = index_items(items, RULE)
    found = found_in(grams, texts, compiled=False)
    assert 100 < len(found) < len(texts)
    assert found_in(grams, texts, compiled=True) == found


def test_every_flag_is_explained_by_words_that_both_hold():
    draw = random.Random(4)
    items = [" ".join(draw.choices("abcdef", k=draw.randrange(5, 30))) for _ in range(100)]
    texts = [" ".join(draw.choices("abcdef", k=300)) for _ in range(100)]
    found = found_in(index_items(items, RULE), texts, compiled=True)
    assert found
    for text, item in found.items():
        words = split_words(items[item])
        length = min(len(words), RULE.ngram_words)
        windows = [" ".join(words[start : start + length]) for start in range(len(words) - length + 1)]
        assert any(f" {window} " in f" {texts[text]} " for window in windows)


def test_without_items_nothing_is_flagged():
    assert found_in(index_items([], RULE), ["a b c d e f g"], compiled=True) == {}
    assert found_in(index_items(["too few words"], RULE), ["too few words here"], compiled=True) == {}
