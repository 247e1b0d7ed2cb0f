import math

import pytest

from lifecycle.evaluation.kinds.multiple_choice import MultipleChoiceSuite

ROW = {"id": "r", "choices": ["no", "certainly"], "answer": 1}


@pytest.fixture
def suite(tmp_path):
    return MultipleChoiceSuite(name="quiz", path=tmp_path / "quiz.jsonl")


def graded(suite, reply, values, row=ROW, fault=None):
    replies = [[reply(mode="likelihood", log_probability=value, fault=fault)] for value in values]
    return suite.graded(row, replies)[0]


def test_length_normalisation_gives_the_long_answer_its_chance(suite, reply):
    """ln p -4 over 2 bytes is -2 a byte; ln p -9 over 9 bytes is -1 a byte."""
    item = graded(suite, reply, [-4.0, -9.0])
    assert (item.grades["correct"], item.grades["correct_per_byte"], item.score) == (0.0, 1.0, 1.0)
    assert item.grades["right_probability"] == round(math.exp(-9) / (math.exp(-4) + math.exp(-9)), 6)
    assert (item.answer, item.log_probability, item.mode) == ("certainly", -9.0, "likelihood")


def test_a_model_that_finds_all_choices_alike_knows_none(suite, reply):
    for answer in range(2):
        row = {"id": "r", "choices": ["ab", "cd"], "answer": answer}
        item = graded(suite, reply, [-3.0, -3.0], row)
        assert (item.grades["correct"], item.grades["right_probability"]) == (0.0, 0.5)


def test_one_choice_without_a_probability_leaves_the_item_unmeasured(suite, reply):
    item = graded(suite, reply, [None, None], fault="does_not_fit")
    assert (item.score, item.unmeasured, item.grades["right_probability"]) == (None, "does_not_fit", None)


def test_guessing_and_the_commonest_place_are_the_baselines(suite):
    rows = [{"choices": ["a", "b"], "answer": 1}] * 3 + [{"choices": list("abcd"), "answer": 0}]
    assert suite.baselines(rows) == {"random_accuracy": round((3 / 2 + 1 / 4) / 4, 6), "commonest_place": 0.75}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"choices": ["a"]}, "row_choices_are_not_two_texts_or_more"),
        ({"choices": ["a", 2]}, "row_choices_are_not_two_texts_or_more"),
        ({"choices": ["a", "a"]}, "row_same_choice_twice"),
        ({"answer": 2}, "row_answer_is_no_choice"),
        ({"answer": True}, "row_answer_is_no_choice"),
    ],
)
def test_a_row_must_have_choices_and_one_answer_among_them(suite, user, change, fault):
    assert suite.fault_of({**ROW, "messages": user(), **change}) == fault


def test_a_base_model_is_asked_in_plain_text(suite, user):
    plain = suite.model_copy(update={"ask_as": "text"})
    row = {**ROW, "messages": user("Is it?")}
    assert [(ask.prompt, ask.continuation) for ask in plain.asks(row)] == [("Is it?", " no"), ("Is it?", " certainly")]
    assert [(ask.prompt, ask.continuation) for ask in suite.asks(row)] == [
        (user("Is it?"), "no"),
        (user("Is it?"), "certainly"),
    ]
