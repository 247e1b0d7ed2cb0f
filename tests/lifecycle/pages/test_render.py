import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from lifecycle.pages.render import ENVIRONMENT, escaped


@given(st.text())
def test_a_value_stays_on_its_line_and_in_its_cell(text):
    shown = escaped(text)
    assert not set(shown) & set("<>|`[]\\\n\r\0\x1b\u2028")
    assert shown == " ".join(shown.split())


def test_every_value_of_a_template_is_escaped_unless_it_says_otherwise():
    template = ENVIRONMENT.from_string("| {{ a }} | {{ b | json }} |")
    assert template.render(a="<b>|x", b='"\n') == '| &#60;b&#62;&#124;x | "\\"\\n" |'


def test_a_name_the_template_does_not_know_is_an_error():
    with pytest.raises(UndefinedError):
        ENVIRONMENT.from_string("{{ nobody }}").render()
