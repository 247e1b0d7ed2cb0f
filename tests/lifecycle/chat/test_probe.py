"""Templates that try to learn what a hole says, or that they are being probed: none gets through. What each tries is
to write something else where a content is long; with holes for contents it would not be seen."""

import pytest

from lifecycle.chat.probe import Template, Unprovable, answers
from lifecycle.chat.symbolic import HOLE

TURNS = [{"role": "user", "content": HOLE}, {"role": "assistant", "content": HOLE}]
ASKS = {
    "a list that holds it, as text": "([m.content] | string) | length > 99",
    "a list that holds it, formatted": "'{}'.format([m.content]) | length > 99",
    "its repr": "'{!r}'.format(m.content) | length > 99",
    "a message as text": "(m | string) | length > 99",
    "a namespace as text": "(namespace(x=m.content) | string) | length > 99",
    "its values as text": "(m.values() | string) | length > 99",
    "a list in a list, joined": "([[m.content]] | join) | length > 99",
    "it replaces a literal": "'X'.replace('X', m.content) | length > 99",
    "a table that translates": "'a'.translate({97: m.content}) | length > 99",
    "literals joined": "''.join([m.content]) | length > 99",
    "literals joined from values": "''.join(m.values()) | length > 99",
    "literals joined as they come": "''.join([m] | map(attribute='content')) | length > 99",
    "a literal begins with it": "'secret'.startswith(m.content)",
    "a literal counts it": "'secret'.count(m.content)",
    "a literal is stripped of it": "'x'.strip(m.content) == ''",
    "it is marked safe": "(m.content | safe) | length > 99",
    "it is added to markup": "('x' | e + m.content) | length > 99",
    "attributes of a tag": "({'a': m.content} | xmlattr) | length > 99",
    "it begins so further on": "m.content.startswith('x', 50)",
    "it is one object with itself": "m.content.strip() is sameas m.content",
    "it is a one-letter constant": "m.content is sameas 'q'",
    "it names a method": "([1])[m.content] is defined",
    "it is stripped of another": "m.content.strip(messages[0].content) == 'x'",
}


@pytest.mark.parametrize("name", ASKS)
def test_what_asks_more_of_a_content_than_where_it_stands_is_unprovable(name):
    source = f"{{% for m in messages %}}{{{{ m.content }}}}{{% if {ASKS[name]} %}}other{{% endif %}}{{% endfor %}}"
    asked = {"messages": TURNS, "prompt": False, "symbolic": True}
    [found] = answers({"template": source, "variables": {}, "conversations": [asked]})
    assert "unprovable" in found, found


def test_what_escapes_a_content_is_unprovable():
    source = "{% autoescape true %}{% set t %}{{ messages[0].content }}{% endset %}{% endautoescape %}{{ t | length }}"
    with pytest.raises(Unprovable, match="escapes"):
        Template(source, {}).parts(TURNS, False)


@pytest.mark.parametrize(
    "asks",
    [
        "messages[0].content.of is defined",
        "[messages[0].content] | map(attribute='of') | first is defined",
        "'concat of holes' is filter",
        "messages[1].tool_calls[0].function.arguments.as_json is defined",
    ],
)
def test_a_template_cannot_tell_a_hole_from_a_text(asks):
    """One that can would behave while it is probed."""
    call = {"id": HOLE, "type": "function", "function": {"name": HOLE, "arguments": HOLE}}
    turns = [TURNS[0], {**TURNS[1], "tool_calls": [call]}]
    assert Template(f"{{{{ {asks} }}}}", {}).parts(turns, False)["parts"] == ("False",)


@pytest.mark.parametrize("asks", ["a.copy()", "a == {}", "(a | string)", "[a] | string", "dict(a)", "a | length"])
def test_of_arguments_a_template_may_know_only_their_json(asks):
    call = {"id": HOLE, "type": "function", "function": {"name": HOLE, "arguments": HOLE}}
    turns = [TURNS[0], {**TURNS[1], "tool_calls": [call]}]
    source = f"{{% set a = messages[1].tool_calls[0].function.arguments %}}{{{{ {asks} }}}}"
    with pytest.raises(Unprovable):
        Template(source, {}).parts(turns, False)
    shown = Template("{{ messages[1].tool_calls[0].function.arguments | tojson }}", {}).parts(turns, False)["parts"]
    assert [part.field for part in shown] == ["tool_calls.0.function.arguments"]
