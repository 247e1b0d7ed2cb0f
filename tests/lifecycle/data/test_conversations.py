"""What a conversation must be, and how two are told apart."""

import pytest

from lifecycle.data.conversations import answer_key, fault_of_comparison, fault_of_messages, prompt_key


def turns(*pairs: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in pairs]


SYSTEM, USER, ASSISTANT = ("system", "Be brief."), ("user", "Section?"), ("assistant", "libs")


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (turns(USER, ASSISTANT), None),
        (turns(SYSTEM, USER, ASSISTANT, USER, ASSISTANT), None),
        ([], "row_no_messages"),
        ("text", "row_no_messages"),
        ([{"role": "user"}], "row_bad_message"),
        (turns(("tool", "x")), "row_unknown_role"),
        (turns(USER, USER, ASSISTANT), "row_roles_do_not_alternate"),
        (turns(ASSISTANT), "row_roles_do_not_alternate"),
        (turns(USER, SYSTEM, ASSISTANT), "row_roles_do_not_alternate"),
        (turns(SYSTEM), "row_does_not_end_with_assistant"),
        (turns(USER), "row_does_not_end_with_assistant"),
        (turns(USER, ("assistant", "  ")), "row_no_text"),
        ([*turns(USER), {"role": "assistant", "content": ["libs"]}], "row_wrong_type"),
        (turns(USER, ("assistant", "a\0b")), "row_nul"),
    ],
)
def test_the_fault_of_a_conversation_is_named(messages, fault):
    assert fault_of_messages(messages, last_role="assistant") == fault


def test_prompts_are_compared_without_case_and_layout_and_answers_with_both():
    assert prompt_key(turns(USER, ASSISTANT)) == prompt_key(turns(("user", " section?\n")))
    assert answer_key(turns(USER, ASSISTANT)) != answer_key(turns(USER, ("assistant", "Libs")))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"prompt": turns(USER, ASSISTANT)}, "row_does_not_end_with_user"),
        ({"chosen": turns(ASSISTANT, USER, ASSISTANT)}, "row_chosen_is_not_one_turn"),
        ({"rejected": "libs"}, "row_rejected_is_not_one_turn"),
        ({"rejected": turns(USER)}, "row_roles_do_not_alternate"),
        ({"rejected": turns(("assistant", " libs "))}, "row_same_answer"),
    ],
)
def test_the_fault_of_a_pair_is_named(change, fault):
    pair = {"prompt": turns(USER), "chosen": turns(ASSISTANT), "rejected": turns(("assistant", "It is libs."))}
    assert fault_of_comparison(pair | change) == fault


def call(name: str = "weather", arguments: object = '{"city": "Rome"}', id: object = "1") -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict, content: str | None = None) -> dict:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


RESULT = {"role": "tool", "content": "", "tool_call_id": "1"}


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([*turns(USER), calling(call()), RESULT, *turns(ASSISTANT)], None),
        ([*turns(USER), calling(call(), content="I look.")], None),
        ([*turns(USER), calling(call(), call(id="2")), RESULT, *turns(ASSISTANT)], "row_tool_call_without_result"),
        ([*turns(USER), calling(call()), *turns(USER, ASSISTANT)], "row_tool_call_without_result"),
        ([*turns(USER), RESULT, *turns(ASSISTANT)], "row_tool_result_without_call"),
        ([*turns(USER), calling(call()), RESULT, RESULT], "row_tool_result_without_call"),
        ([*turns(USER), calling(call()), RESULT, *turns(USER, ASSISTANT)], "row_roles_do_not_alternate"),
        ([*turns(USER), calling(call(arguments={"city": "Rome"}))], "row_tool_arguments_are_no_json"),
        ([*turns(USER), calling(call(arguments="[1]"))], "row_tool_arguments_are_no_json"),
        ([*turns(USER), calling(call(), call())], "row_repeated_tool_call_id"),
        ([*turns(USER), calling(call(name=""))], "row_bad_tool_call"),
        ([*turns(USER), calling(call() | {"index": 0})], "row_bad_tool_call"),
        ([*turns(USER), {"role": "assistant", "content": None}], "row_no_text"),
        ([*turns(USER), calling(call()), RESULT | {"tool_call_id": None}], "row_no_tool_call_id"),
        ([{"role": "user", "content": "a", "tool_calls": [call()]}], "row_bad_message"),
    ],
)
def test_calls_of_tools_are_answered_each_once_before_the_assistant_goes_on(messages, fault):
    assert fault_of_messages(messages, last_role="assistant", tools=True) == fault
    assert fault_of_messages(messages, last_role="assistant") is not None, "tools have to be asked for"


def test_two_answers_that_call_other_tools_differ():
    assert answer_key([*turns(USER), calling(call())]) != answer_key([*turns(USER), calling(call(name="news"))])
