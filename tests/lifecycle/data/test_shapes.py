"""Rows of other shapes as messages: nothing they say is lost, and what has no place is refused."""

import pytest

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.shapes import ALPACA_WITH_INPUT, Shape, Unusable, messages_of, shape_of, shape_of_source

USER, ANSWER = {"role": "user", "content": "Section?"}, {"role": "assistant", "content": "libs"}
SHAREGPT = Shape("sharegpt", "conversations")


def sharegpt(*turns: tuple[str, str], **more: object) -> dict:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **more}


def test_a_shape_is_told_by_the_keys_of_a_row():
    assert shape_of({"messages": [USER]}) == Shape("messages", "messages")
    assert shape_of({"conversations": [USER]}) == Shape("messages", "conversations")
    assert shape_of(sharegpt(("human", "a"))) == SHAREGPT
    assert shape_of({"instruction": "a", "output": "b"}) == Shape("alpaca")
    assert shape_of({"text": "a"}) is None


def test_a_source_has_the_shape_of_its_first_row_that_has_one_or_the_one_asked_for():
    rows = [{"text": "a"}, sharegpt(("human", "a")), {"instruction": "a", "output": "b"}]
    assert shape_of_source(rows, "auto") == SHAREGPT
    assert shape_of_source(rows, "alpaca") == Shape("alpaca")
    assert shape_of_source(rows, "messages") is None


def test_sharegpt_becomes_messages_with_its_system_text_first():
    row = sharegpt(("human", "a"), ("gpt", "b"), system="Be brief.")
    assert [(m["role"], m["content"]) for m in messages_of(row, SHAREGPT)] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
    ]


def test_calls_of_sharegpt_become_tool_calls_and_are_answered_in_their_order():
    call = '[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]'
    row = sharegpt(("human", "a"), ("function_call", call), ("observation", "1"), ("tool", "2"), ("gpt", "b"))
    messages = messages_of(row, SHAREGPT)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [call["function"]["arguments"] for call in messages[1]["tool_calls"]] == ['{"x":1}', "{}"]
    assert [message["tool_call_id"] for message in messages[2:4]] == ["call_1", "call_2"]
    assert fault_of_messages(messages, last_role="assistant", tools=True) is None


def test_the_two_prompts_of_alpaca_and_the_plain_turn():
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "history": [["a", "b"]]}
    plain = messages_of(row, Shape("alpaca"))
    assert [m["content"] for m in plain] == ["a", "b", "Add.\n\n1 2", "3"]
    with_input, without = (
        messages_of(row | {"input": given}, Shape("alpaca"), "stanford")[-2]["content"] for given in ("1 2", "")
    )
    assert with_input == ALPACA_WITH_INPUT.format(instruction="Add.", input="1 2")
    assert "### Input" not in without
    assert without.startswith("Below is an instruction that describes a task. Write")


@pytest.mark.parametrize(
    ("row", "shape", "fault"),
    [
        (
            {"messages": [USER, ANSWER], "tools": [{"type": "function"}]},
            Shape("messages", "messages"),
            "row_bad_tools",
        ),
        (sharegpt(("critic", "a")), SHAREGPT, "row_unknown_role"),
        (sharegpt(("human", "a"), ("function_call", "f(1)")), SHAREGPT, "row_bad_tool_call"),
        (sharegpt(("human", "a"), ("tool", "1")), SHAREGPT, "row_tool_result_without_call"),
        ({"messages": [USER, ANSWER]}, SHAREGPT, "row_of_another_shape"),
        ({"text": "a"}, SHAREGPT, "row_of_unknown_shape"),
        ({"instruction": 3, "output": "b"}, Shape("alpaca"), "row_wrong_type"),
        ({"instruction": "a", "output": "b", "history": ["a"]}, Shape("alpaca"), "row_bad_message"),
    ],
)
def test_what_has_no_place_in_the_schema_is_named(row, shape, fault):
    assert messages_of(row, shape) == Unusable(fault)


def test_keys_that_arrow_adds_to_every_turn_are_no_part_of_it():
    row = {"messages": [USER | {"tool_calls": None, "name": None}, ANSWER | {"tool_calls": []}]}
    assert messages_of(row, Shape("messages", "messages")) == [USER, ANSWER]
