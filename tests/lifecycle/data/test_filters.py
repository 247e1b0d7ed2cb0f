"""One document for every rule, each just on the wrong side of it, and prose that passes all."""

import pytest

from lifecycle.data.filters import C4LineRules, C4Rules, QualityRules, RepetitionRules
from lifecycle.data.filters.c4 import count_sentences
from lifecycle.data.filters.repetition import TABLE_A1, duplicates, repeated_characters, top_ngram

PROSE = (
    "It was the best of times, it was the worst of times, and nobody knew that winter was to be so long. "
    "The ships in the harbour waited with folded sails, while merchants argued about the price of grain and salt. "
    "Some of them said that spring would come early; others laughed, went home, and closed their doors to the wind."
)
LINES = [
    "The captain counted his men and found that two were missing.",
    "Rain had fallen since noon, and the road to town was mud.",
    "Nobody would say what became of the letter she had written.",
    "With a lantern in hand he walked down into the cellar.",
    "Bread was dear that year; butter could not be had at all.",
    "An old dog slept beside the stove and dreamt of hares.",
]


def test_prose_passes():
    assert QualityRules().drop(PROSE) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ".join(PROSE.split()[:49]), "gopher_word_count"),
        (" ".join(["to be"] * 40), "gopher_mean_word_length"),
        (" ".join(["internationalisation"] * 60), "gopher_mean_word_length"),
        (PROSE + " 1984" * 20, "gopher_alphabetic_words"),
        (" ".join(f"lonely{number} words" for number in range(40)), "gopher_stop_words"),
        (PROSE + " #" * 9 + "###", "gopher_symbols"),
        ("\n".join(f"- {line}" for line in LINES), "gopher_bullet_lines"),
        ("\n".join([f"{line}.." for line in LINES[:3]] + LINES[3:]), "gopher_ellipsis_lines"),
        ("\n".join([*LINES[:3], *LINES[:3]]), "repetition_lines"),
        ("\n\n".join([PROSE, LINES[0], PROSE]), "repetition_lines"),
        (PROSE + " the sea" * 30, "repetition_top_2gram"),
        (PROSE + " Lorem ipsum dolor sit amet.", "c4_lorem_ipsum"),
        ("\n".join([PROSE, *(f"item {name}." for name in "abcde")]), "fineweb_short_lines"),
        ("\n".join(line.rstrip(".") for line in LINES), "fineweb_unended_lines"),
    ],
)
def test_each_rule_drops_its_own_document_and_says_why(text, reason):
    drop = QualityRules().drop(text)
    assert drop is not None
    assert drop.reason == reason


def test_a_family_can_be_switched_off():
    assert QualityRules(gopher=None, repetition=None, c4=None, fineweb=None).drop("x") is None


def test_repeats_are_counted_after_the_first():
    assert duplicates(["ab", "c", "ab", "ab"]) == (2, 4)
    assert top_ngram(["a", "b", "a", "b", "a", "b"], 2) == ("a b", 3)
    assert top_ngram(["a"], 2) == ("", 0)


def test_a_repeated_run_of_words_is_counted_once_and_stepped_over():
    words = ["the", "cat", "sat", "on", "the", "mat"]
    # The second time, "the cat sat on the" (14 letters) repeats; what begins inside it is not counted again.
    assert repeated_characters([*words, *words]) == [14, 17, 0, 0, 0, 0]
    assert RepetitionRules(max_duplicate_ngram_character_share=TABLE_A1).drop(" ".join([PROSE, PROSE])) is not None


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One. Two? Three!", 3),
        ("No end at all", 1),
        ("J. F. Kennedy spoke. He sat down.", 2),
        ('He said "Go." and went."', 2),
    ],
)
def test_initials_end_no_sentence(line, sentences):
    assert count_sentences(line, ".!?") == sentences


def test_c4_takes_out_the_lines_that_are_not_text_and_counts_each():
    page = "\n".join(
        ["Menu", "It rained[1] all day in the town.", "Please enable Javascript.", "", "We use cookies here.", "Yes."]
    )
    rules = C4Rules(lines=C4LineRules(min_sentences=1))
    assert rules.judge(page) == (
        None,
        "It rained all day in the town.",
        {"c4_line_unended": 1, "c4_line_javascript": 1, "c4_line_policy": 1, "c4_line_few_words": 1},
    )
    drop = C4Rules(lines=C4LineRules(min_sentences=2)).judge(page).drop
    assert drop is not None
    assert drop == ("c4_few_sentences", "1 sentences in 1 lines that stay, not 2")
