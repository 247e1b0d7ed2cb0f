"""Answers that nobody should learn to give, and those near them that are fine."""

import pytest

from lifecycle.data.answers import AnswerRules, Looping, Truncated

LONG = " ".join(f"word{n}" for n in range(160))


def reason(answer: str, prompt: str = "Why?", rules: AnswerRules | None = None) -> str | None:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    drop = (rules or AnswerRules()).drop(messages)
    return drop and drop.reason


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (LONG, "answer_truncated"),
        (f"{LONG},", "answer_truncated"),
        (f"{LONG}.", None),
        (f"{LONG} 🎉", None),
        (f"{LONG} done。", None),
        (f"{LONG}:\n- a short item", None),
        (f"{LONG}\n```", None),
        ("short and without an end", None),
        ("the end " * 4, "answer_looping"),
        ("I know. " + "and so on " * 5, "answer_looping"),
        ("no no no", None),
        ("the end the end", None),
        (" ".join(f"{n} is a number and that is all there is to say of it." for n in range(20)), "answer_looping"),
        (" ".join(f"{n} is {n * n} when squared." for n in range(20)), None),
        ("WHY? ", "answer_is_prompt"),
        ("Why not?", None),
    ],
)
def test_an_answer_is_dropped_for_one_reason_or_stays(answer, found):
    assert reason(answer) == found


def test_every_answer_of_a_conversation_is_asked_and_a_call_says_nothing():
    call = {"role": "assistant", "content": None, "tool_calls": []}
    messages = [{"role": "user", "content": "a"}, call, {"role": "user", "content": "b"}]
    assert AnswerRules().drop(messages) is None
    assert AnswerRules().drop([*messages, {"role": "assistant", "content": "b"}]).reason == "answer_is_prompt"


def test_a_rule_that_is_off_drops_nothing():
    assert reason(LONG, rules=AnswerRules(truncated=None)) is None
    assert reason("the end " * 4, rules=AnswerRules(looping=None)) is None
    assert reason("Why?", rules=AnswerRules(echo=False)) is None
    assert reason("a b a b", rules=AnswerRules(looping=Looping(min_times=2))) == "answer_looping"
    assert reason("nine words are enough here to call it cut", rules=AnswerRules(truncated=Truncated(min_words=9)))
