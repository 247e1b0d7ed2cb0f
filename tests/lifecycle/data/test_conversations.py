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
