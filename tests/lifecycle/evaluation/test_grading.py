import pytest

from lifecycle.evaluation.grading import grade


@pytest.mark.parametrize(
    ("answer", "correct", "terse"),
    [
        ('{"section": "libs"}', True, True),
        ('  {"section":"libs"}\n', True, True),
        ('The section is {"section": "libs"}.', True, False),
        ('{"section": "doc"}', False, True),
        ("libs", False, False),
        ("", False, False),
        ('{"section": "libs"', False, False),
        # More than the right field, or the right field among others, is another answer.
        ('{"section": "libs", "package": "x"}', False, True),
        ('{"a": {"section": "libs"}}', False, True),
        # Two answers are none, whichever of them is right.
        ('{"section": "libs"} or {"section": "doc"}', False, False),
        # Readers differ on a repeated key: the last one wins in Python, the first one elsewhere.
        ('{"section": "doc", "section": "libs"}', False, True),
        ('{ no json {"section": "libs"}', True, False),
        ("{" * 3000, False, False),
    ],
)
def test_an_answer_is_graded_by_the_one_object_in_it(answer, correct, terse):
    found = grade(answer, "section", "libs")
    assert (found.correct, found.terse, found.exact) == (correct, terse, correct and terse)


@pytest.mark.parametrize(
    "answer", ['{"size": "12"}', '{"size": 12.0}', '{"size": true}', '{"size": null}', '{"size": NaN}']
)
def test_another_type_is_wrong(answer):
    assert not grade(answer, "size", 12).correct
    assert grade('{"size": 12}', "size", 12).correct


def test_null_is_an_answer():
    assert grade('{"size": null}', "size", None).correct
    assert not grade('{"size": ""}', "size", None).correct


def test_true_is_not_one():
    assert not grade('{"essential": 1}', "essential", True).correct
