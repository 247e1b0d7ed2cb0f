"""What is counted from the item records: calibration, lengths, where answers are lost, examples, gaps."""

import math

import pytest

from lifecycle.evaluation.items import Item
from lifecycle.report import answers


def records(*items):
    return {item.key: item for item in items}


def made(number, **more):
    known = {"kind": "contract", "suite": "quiz", "id": f"q{number}", "mode": "greedy", "prompt_digest": "0"}
    known |= {"answer": "a", "score": 1.0, "grades": {"correct": 1.0}, "log_probability": -1.0, "tokens": 4}
    return Item(**(known | more))


def test_calibration_compares_what_was_said_with_what_was_right():
    # 40 answers at 0.8, 32 of them right; 40 at 0.4, all right: the mean distance is (0.0 + 0.6) / 2.
    pairs = [(0.8, number < 32) for number in range(40)] + [(0.4, True)] * 40
    found = answers.calibration("quiz", pairs)
    assert [(one.items, round(one.said, 6), one.right) for one in found.bins] == [(40, 0.4, 1.0), (40, 0.8, 0.8)]
    assert found.gap == pytest.approx(0.3)
    assert found.bins[1].low < 0.8 < found.bins[1].high


def test_tenths_with_too_few_answers_are_joined_and_none_is_left_out():
    pairs = [(0.05 + number / 10, True) for number in range(10)] * 7
    assert sum(one.items for one in answers.calibration("quiz", pairs).bins) == 70
    assert all(one.items >= answers.ITEMS_PER_BIN for one in answers.calibration("quiz", pairs).bins)


def test_too_few_answers_say_nothing_of_calibration():
    assert answers.calibrations(records(*(made(n) for n in range(29)))) == []
    assert len(answers.calibrations(records(*(made(n) for n in range(30))))) == 1


def test_lengths_are_shares_by_token_and_know_the_other_model():
    ours, theirs = records(made(1, tokens=2), made(2, tokens=4)), records(made(1, tokens=2), made(2, tokens=2))
    (found,) = answers.all_lengths(ours, theirs)
    assert found.shares == [0, 0, 0.5, 0, 0.5]
    assert found.live_shares == [0, 0, 1, 0, 0]
    assert (found.median, found.live_median) == (3, 2)


def test_a_path_counts_those_that_passed_every_step_before():
    items = [made(n, grades={"correct": float(n < 3), "exact": float(n % 2)}) for n in range(5)]
    items.append(made(9, score=None, grades={"correct": None, "exact": None}, unmeasured="truncated"))
    (found,) = answers.paths(records(*items))
    steps = [(step.name, step.left, dict(step.lost)) for step in found.steps]
    assert steps == [("asked", 6, {}), ("measured", 5, {"truncated": 1}), ("correct", 3, {}), ("exact", 1, {})]


def test_gaps_are_counted_by_reason_the_commonest_first():
    lost = [made(n, score=None, unmeasured="truncated" if n else "logits_not_finite") for n in range(3)]
    found = answers.gaps(records(*lost, made(3)))
    assert [(gap.reason, gap.items, gap.of, gap.ids) for gap in found] == [
        ("truncated", 2, 4, ["q1", "q2"]),
        ("logits_not_finite", 1, 4, ["q0"]),
    ]


def test_examples_show_what_was_lost_and_won_the_surest_first_and_each_item_once():
    wrong = {"score": 0.0, "grades": {"correct": 0.0, "exact": 0.0}}
    right = {"score": 1.0, "grades": {"correct": 1.0, "exact": 1.0}}
    ours = records(made(1, log_probability=-3.0, **wrong), made(2, log_probability=-1.0, **wrong), made(3, **right))
    theirs = records(made(1, **right), made(2, **right), made(3, **wrong))
    rows = {("quiz", "q2"): {"messages": [{"role": "user", "content": "how?"}], "field": "so", "value": None}}
    (found,) = answers.examples(ours, theirs, rows)
    assert (found.grade, found.lost_items, found.won_items) == ("correct", 2, 1)
    assert [one.id for one in found.lost] == ["q2", "q1"]
    assert (found.lost[0].prompt, found.lost[0].wanted) == ("how?", '{"so":null}')
    assert [one.id for one in found.won] == ["q3"]


def test_what_one_side_could_not_measure_is_neither_lost_nor_won():
    unknown = made(1, score=None, grades={"correct": None}, unmeasured="truncated")
    assert answers.examples(records(unknown), records(made(1)), {}) == []
    assert answers.examples(records(made(1)), records(unknown), {}) == []


def test_a_text_that_was_only_scored_is_no_answer(document):
    scored = records(*(document(n, 100.0) for n in range(40)))
    assert answers.all_lengths(scored, {}) == []
    assert answers.calibrations(scored) == []
    assert math.isfinite(next(iter(scored.values())).score)
