"""The same text is written in one way, and every change is counted."""

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.normalise import Normalisation, normalise

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
