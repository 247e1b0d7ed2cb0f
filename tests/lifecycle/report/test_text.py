"""Whatever text comes in, what is shown neither hides nor commands anything."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.report.text import one_line, shown


def test_invisible_and_commanding_characters_are_written_out():
    assert shown("a\x00b\x1b[31m") == "a␀b␛[31m"
    assert shown("\u202egnp.exe") == "⟨U+202E⟩gnp.exe"
    assert shown("\ud800") == "\ufffd"
    assert shown("a\u2028b\ufeff\U000e0041") == "a⟨U+2028⟩b⟨U+FEFF⟩⟨U+E0041⟩"
    assert shown("x\u0085y") == "x⟨U+0085⟩y"


def test_what_people_write_stays_as_it_is():
    for text in ("naïve\n\ttab", "日本語 🎉", "👩‍👩‍👧", "नमस्ते", "عربي hello"):
        assert shown(text) == text


def test_marks_cannot_climb_over_the_lines_above():
    assert shown("Z" + "\u0301" * 400) == "Z" + "\u0301" * 4


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    assert shown("x" * 10_000_000, 5) == "xxxxx … (9,999,995 more characters)"
    assert one_line(" a\n\n b\t") == "a b"


@given(st.text(st.characters(codec=None)))
def test_nothing_shown_is_a_control_an_override_or_unwritable(text):
    found = shown(text)
    found.encode("utf-8")
    bad = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
    assert not [c for c in found if unicodedata.category(c) in bad and c not in "\n\t\u200c\u200d"]
