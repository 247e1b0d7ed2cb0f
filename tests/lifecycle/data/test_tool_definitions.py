"""Definitions of tools as rows bring them: known variants become one form, anything else is a named fault."""

import json

import pytest

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.shapes import Shape, Unusable, messages_of
from lifecycle.data.tool_definitions import fault_of_definitions, read_definitions

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "default": None}}, "required": ["n"]}
FUNCTION = {"name": "look_up", "description": "Looks it up.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
MESSAGES = Shape("messages", "messages")


def test_text_and_functions_without_a_wrapper_become_the_same_definitions():
    assert read_definitions(json.dumps([TOOL])) == [TOOL]
    assert read_definitions(json.dumps([dict(reversed(FUNCTION.items())) | {"strict": True}])) == [TOOL]
    assert list(read_definitions(json.dumps([TOOL]))[0]["function"]) == ["name", "description", "parameters"]


def test_a_null_that_arrow_adds_is_left_out_and_one_in_json_text_stays():
    padded = {**FUNCTION, "strict": None, "parameters": {**SCHEMA, "properties": {"n": {"type": "integer"}, "m": None}}}
    (found,) = read_definitions([{"type": "function", "function": padded}])
    assert found["function"]["parameters"]["properties"] == {"n": {"type": "integer"}}
    (found,) = read_definitions(json.dumps([TOOL]))
    assert found["function"]["parameters"]["properties"]["n"]["default"] is None
    assert fault_of_definitions([found]) is None


def deep(levels: int) -> str:
    return '[{"name": "f", "parameters": {"properties": ' + '{"a":' * levels + "1" + "}" * levels + "}}]"


@pytest.mark.parametrize(
    "tools",
    [
        "not JSON",
        "{}",
        7,
        [7],
        [{"type": "retrieval"}],
        [{"type": "function", "function": FUNCTION, "more": 1}],
        [{"name": ""}],
        [{"name": "a\0"}],
        [{"name": "f", "description": 7}],
        [{"name": "f", "return": {}}],
        [{"name": "f", "parameters": []}],
        [{"name": "f", "parameters": {"type": "string"}}],
        [{"name": "f", "parameters": {"required": ["n"]}}],
        [{"name": "f", "parameters": {"required": [["n"]]}}],
        [TOOL, TOOL],
        [{"name": f"f{n}"} for n in range(129)],
        deep(100),
        deep(900),
    ],
)
def test_what_is_no_list_of_definitions_is_named(tools):
    assert messages_of({"messages": [USER, ANSWER], "tools": tools}, MESSAGES) == Unusable("row_bad_tools")


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_definitions_leave_a_row_as_it_is(tools):
    assert messages_of({"messages": [USER, ANSWER], "tools": tools}, MESSAGES) == [USER, ANSWER]


def test_definitions_stand_in_the_system_turn_whatever_the_shape():
    turn = {"role": "system", "content": "Be brief.", "tools": [TOOL]}
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    row = {"conversations": turns, "tools": json.dumps([TOOL])}
    sharegpt = Shape("sharegpt", "conversations")
    assert messages_of(row, sharegpt) == [turn | {"content": None}, USER, ANSWER]
    assert messages_of(row | {"system": "Be brief."}, sharegpt) == [turn, USER, ANSWER]
    assert fault_of_messages([turn | {"content": None}, USER, ANSWER], last_role="assistant", tools=True) is None
    both = {"messages": [turn, USER, ANSWER], "tools": [TOOL]}
    assert messages_of(both, MESSAGES) == Unusable("row_bad_tools")


@pytest.mark.parametrize(
    ("name", "arguments", "fault"),
    [
        ("look_up", '{"n": 1}', None),
        ("look_up", '{"n": 1, "more": 2}', None),
        ("look_up", "{}", "row_call_lacks_argument"),
        ("other", '{"n": 1}', "row_calls_undefined_tool"),
    ],
)
def test_a_call_is_of_a_tool_that_is_defined_with_what_it_requires(name, arguments, fault):
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    asks = {"role": "assistant", "content": None, "tool_calls": [call]}
    system = {"role": "system", "content": None, "tools": [TOOL]}
    told = {"role": "tool", "tool_call_id": "1", "content": "7"}
    assert fault_of_messages([system, USER, asks, told, ANSWER], last_role="assistant", tools=True) == fault
    assert fault_of_messages([USER, asks, told, ANSWER], last_role="assistant", tools=True) is None


@pytest.mark.parametrize("tools", [[FUNCTION], [], "[]", [{**TOOL, "more": 1}]])
def test_a_system_turn_holds_definitions_in_one_form_only(tools):
    system = {"role": "system", "content": "Be brief.", "tools": tools}
    assert fault_of_messages([system, USER, ANSWER], last_role="assistant", tools=True) == "row_bad_tools"
