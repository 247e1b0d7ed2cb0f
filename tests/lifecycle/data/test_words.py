"""Grams never reach over the end of a text, and short texts are one gram."""

from lifecycle.data.words import WordTable, split_words


def test_punctuation_case_and_layout_do_not_hide_a_copy():
    assert split_words("Call me\n ISHMAEL_ — (1851)!") == ["call", "me", "ishmael", "1851"]


def test_windows_stay_within_their_text():
    table = WordTable(["a b c d", "e f", "", "b c"])
    windows = table.windows(2)
    assert list(windows.owners) == [0, 0, 0, 1, 3]
    assert windows.hashes[1] == windows.hashes[4]  # "b c", both times
    assert len(set(windows.hashes.tolist())) == 4


def test_the_order_of_words_counts():
    windows = WordTable(["a b", "b a"]).windows(2)
    assert windows.hashes[0] != windows.hashes[1]


def test_a_text_shorter_than_a_shingle_is_one_shingle_and_one_without_words_none():
    shingles = WordTable(["a b c d e f", "a b", "...", "a b"]).shingles(5)
    assert list(shingles.owners) == [0, 0, 1, 3]
    assert shingles.hashes[2] == shingles.hashes[3]
