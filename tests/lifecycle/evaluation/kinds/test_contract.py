import pytest

from lifecycle.evaluation.kinds.contract import ContractSuite, majority_answer_share
from lifecycle.evaluation.kinds.suite import Generate, Likelihood

ROW = {"id": "r", "field": "section", "value": "libs"}


@pytest.fixture
def suite(tmp_path):
    return ContractSuite(name="contract", path=tmp_path / "contract.jsonl")


def test_an_answer_that_was_cut_is_unmeasured_and_known_not_to_have_stopped(suite, reply):
    """The same words, cut and ended: the cut ones might have gone on."""
    said = '{"section": "libs"}'
    cut, ended = (suite.graded(ROW, [[reply(said, stopped=stopped)]])[0] for stopped in (False, True))
    assert (cut.unmeasured, cut.score, cut.grades["correct"], cut.grades["stopped"]) == ("truncated", None, None, 0.0)
    assert (ended.unmeasured, ended.score, ended.grades["exact"], ended.grades["stopped"]) == (None, 1.0, 1.0, 1.0)


def test_logits_that_are_no_numbers_leave_every_grade_unknown(suite, reply):
    (item,) = suite.graded(ROW, [[reply(fault="logits_not_finite")]])
    assert item.unmeasured == "logits_not_finite"
    assert set(item.grades.values()) == {None}


def test_the_right_answers_probability_is_a_finer_measure(suite, reply, user):
    finer = suite.model_copy(update={"score_right_answer": True})
    said = '{"section": "libs"}'
    row = finer.stored({**ROW, "messages": [*user(), {"role": "assistant", "content": said}]})
    assert finer.asks(row)[1] == Likelihood(user(), said, ends=True)
    items = finer.graded(row, [[reply(said)], [reply(said, mode="likelihood", log_probability=-2.5)]])
    found = finer.measures(items)["right_log_probability"]
    assert (found.values, found.family, found.bounds) == ({"r": -2.5}, "mean", None)
    assert [type(ask) for ask in suite.asks(row)] == [Generate]


def test_the_majority_answer_is_the_commonest_for_the_field_asked():
    asked = [("section", "libs")] * 3 + [("section", "perl")] + [("size", 1), ("size", 2)]
    rows = [{"field": field, "value": value} for field, value in asked]
    assert majority_answer_share(rows) == round((3 + 1) / 6, 6)
