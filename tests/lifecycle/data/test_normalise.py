"""The same text is written in one way, and every change is counted."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.normalise import INVISIBLE, OTHER_NEWLINES, Normalisation, normalise

RULE = Normalisation()
NONE = Normalisation(canonical=False, newlines=False, drop_invisible=False, strip_line_ends=False, max_blank_lines=None)


def test_each_change_is_counted():
    text = "\ufeffcafe\u0301  \r\nso\u00adft\r\n\n\n\n\nend\u2028"
    assert normalise(text, RULE) == (
        "café\nsoft\n\n\nend\n",
        {"newlines": 3, "invisible": 2, "canonical": 1, "line_ends": 1, "blank_lines": 1},
    )
    assert normalise(text, NONE) == (text, {})


def test_what_scripts_are_spelt_with_stays():
    text = "می\u200cخواهم 👩\u200d🔬 x² ﬁ\tend"
    assert normalise(text, RULE) == (text, {})


@given(st.text(alphabet="ae\u0301\u0327 \t\n\r\x85\u2028\ufeff\u00ad\u200b\u200dQ", max_size=40))
def test_twice_is_once(text):
    once = normalise(text, RULE).text
    assert normalise(once, RULE) == (once, {})


@given(st.text(alphabet="ae \t\n\r\x0b\x1f\x85\u00a0\u2003", max_size=40))
def test_blanks_at_line_ends_are_those_a_pattern_finds(text):
    rule = NONE.model_copy(update={"strip_line_ends": True})
    left, times = re.subn(r"[^\S\n]+(?=\n|\Z)", "", text)
    assert normalise(text, rule) == (left, {"line_ends": times} if times else {})


@given(
    st.text(alphabet="aé£中\t\n\r\x00\x0c\x1b\x7f\x80\x85\x9f\u00ad\u200b\u200d\u2028\u2029\u2060\ufeff", max_size=12)
)
def test_newlines_and_invisible_characters_are_those_the_patterns_find(text):
    rule = NONE.model_copy(update={"newlines": True, "drop_invisible": True})
    left, newlines = OTHER_NEWLINES.subn("\n", text)
    left, invisible = INVISIBLE.subn("", left)
    counts = {"newlines": newlines, "invisible": invisible}
    assert normalise(text, rule) == (left, {kind: count for kind, count in counts.items() if count})
