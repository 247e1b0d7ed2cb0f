"""Metrics, rules and verdicts in plain words."""

import pytest

from lifecycle.artifacts import Check, Score
from lifecycle.report import words

NBSP = "\N{NO-BREAK SPACE}"


def check(verdict, **more):
    return Check(metric="quiz.accuracy", rule="floor", verdict=verdict, reason="so", candidate=0.5, **more)


@pytest.mark.parametrize(
    ("verdict", "checks", "said"),
    [
        ("PROMOTE", ["PASS", "PASS"], "Yes: all 2 rules are shown to hold"),
        ("BLOCK", ["PASS", "FAIL", "UNMEASURED"], "No: 1 of 3 rules fails, 1 not settled"),
        ("INCONCLUSIVE", ["PASS", "INCONCLUSIVE"], "Not yet: 1 of 2 rules is not settled by the evidence"),
        (None, [], "No gate has decided on it"),
    ],
)
def test_the_verdict_answers_whether_it_may_go_live(verdict, checks, said):
    assert words.headline(verdict, [check(name) for name in checks]) == said


def test_an_optional_rule_is_not_counted_against_it():
    assert words.headline("PROMOTE", [check("PASS"), check("FAIL", required=False)]).startswith("Yes: 1 of 1 rules is")


def test_rules_are_written_in_the_unit_of_their_metric():
    floor = {"kind": "floor", "metric": "a", "at_least": 0.8}
    guard = {"kind": "guard", "metric": "a", "margin": 0.04, "required": False}
    assert words.rule(floor, words.SHARE) == f"must be above 80.0{NBSP}%"
    assert words.rule(guard, words.SHARE).startswith("may be worse than live by less than 4.0 points (optional")
    assert words.rule({"kind": "ceiling", "metric": "b", "at_most": 2}, words.BITS) == "must be below 2.000"
    assert (
        words.rule({"kind": "target", "by": 0.03}, words.SHARE)
        == "must be better than live; 3.0 points were worked for"
    )
    assert words.rule({"kind": "new", "metric": "a", "shade": 3}, words.SHARE) == "kind new, shade 3"


def test_the_bar_of_a_guard_lies_on_the_worse_side():
    guard = {"kind": "guard", "margin": 0.1}
    assert words.limit(guard, higher_is_better=True) == -0.1
    assert words.limit(guard, higher_is_better=False) == 0.1


def test_numbers_behind_a_verdict_say_which_way_they_went():
    found = check("FAIL", live=0.9, difference=-0.4, low=-0.45, high=-0.35)
    said = words.found(found, words.SHARE, higher_is_better=True)
    assert said == f"50.0{NBSP}%, live 90.0{NBSP}%: −40.0 points [−45.0, −35.0], worse"
    assert words.found(found, words.BITS, higher_is_better=False).endswith("better")


def test_what_rounds_to_zero_has_no_sign():
    assert words.SHARE.difference(-0.00001) == "0.0"
    assert words.SHARE.difference(0.0123) == "+1.2"


def test_a_baseline_goes_to_the_metrics_it_is_a_score_on():
    baselines = {"quiz.random_accuracy": 0.25, "bigram_bits_per_byte": 2.0, "bigram_bits_per_byte.sea": 2.2}
    assert words.baselines_of("quiz.accuracy", baselines, is_slice=False) == {"random_accuracy": 0.25}
    assert words.baselines_of("quiz.greedy_stopped", baselines, is_slice=False) == {}
    assert words.baselines_of("quiz.accuracy.biology", baselines, is_slice=True) == {}
    assert words.baselines_of("bits_per_byte", baselines, is_slice=False) == {"bigram": 2.0}
    assert words.baselines_of("bits_per_byte.sea", baselines, is_slice=True) == {"bigram": 2.2}


def test_a_slice_knows_the_metric_it_is_a_part_of_also_when_its_name_has_dots():
    names = dict.fromkeys(("bits_per_byte", "bits_per_byte.v1.2", "quiz.accuracy", "quiz.accuracy.a"))
    assert words.parents(names) == {"bits_per_byte.v1.2": "bits_per_byte", "quiz.accuracy.a": "quiz.accuracy"}


def test_units_follow_from_the_metric():
    score = Score(mean=0.5, low=0.4, high=0.6, items=9)
    assert words.unit_of("quiz.accuracy", score) is words.SHARE
    assert words.unit_of("bits_per_byte.sea", score) is words.BITS
    assert words.unit_of("quiz.elo", score.model_copy(update={"mean": 1200.0})) is words.NUMBER
