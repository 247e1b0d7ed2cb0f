"""What is measured of drift, by hand; and each rule broken once, and not broken by what is healthy."""

import math

import pytest
import torch

from lifecycle.training import drift
from lifecycle.training.divergence import by_answer, entropy, token_kl
from lifecycle.training.drift import DriftPolicy

FIRST = {"contract": 0.95, "bits_per_byte": 2.0, "reward": 1.0, "second_reward": 1.0, "second_reward_error": 0.05}
HEALTHY = {
    **FIRST,
    "kl": 3.0,
    "chosen_change": 0.02,
    "length_ratio": 0.7,
    "distinct_2": 0.2,
    "reference_distinct_2": 0.18,
    "reward_accuracy": 0.97,
    "decided": 0.95,
    "disagreement": 0.01,
    "contract_fall_shown": -0.02,
}


def rules(pairs: int = 200, **changed: float) -> list[str]:
    found = drift.faults(DriftPolicy(), FIRST, {**HEALTHY, **changed}, pairs=pairs)
    return [fault.rule for fault in found]


def test_who_is_healthy_is_not_accused():
    assert rules() == []


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("labels_swapped", {"reward_accuracy": 0.02}),
        ("labels_disagree", {"disagreement": 0.15, "reward_accuracy": 0.85}),
        ("moved_too_far", {"kl": 25.0}),
        ("chosen_falls", {"chosen_change": -0.6}),
        ("contract_falls", {"contract": 0.80, "contract_fall_shown": 0.05}),
        ("forgets_text", {"bits_per_byte": 2.6}),
        ("length_runs_away", {"length_ratio": 4.0}),
        ("length_runs_away", {"length_ratio": 0.2}),
        ("repeats_itself", {"distinct_2": 0.03}),
        ("reward_is_gamed", {"reward": 3.0, "second_reward": 0.5}),
    ],
)
def test_each_rule_speaks_of_what_it_is_about(rule, changed):
    assert rules(**changed) == [rule]


def test_labels_are_not_judged_before_margins_have_moved():
    assert rules(reward_accuracy=0.0, decided=0.1) == []


def test_what_chance_does_to_few_rows_accuses_nobody():
    assert rules(contract=0.80, contract_fall_shown=0.02) == []
    assert rules(reward=3.0, second_reward=0.8) == []  # a difference of two means of 0.05 each has an error of 0.07
    assert rules(pairs=20, reward_accuracy=0.35) == []


def test_a_rule_that_is_off_is_silent():
    policy = DriftPolicy(max_kl=None)
    assert not list(drift.faults(policy, FIRST, {**HEALTHY, "kl": 1e3}, pairs=9))


def test_all_looks_together_spend_no_more_than_the_false_alarm_and_the_last_one_counts():
    policy = DriftPolicy(every_steps=15, false_alarm=0.04)
    assert policy.tail_at(0) == policy.tail_at(15) == 0.02
    assert policy.tail_at(60) == 0.04 / 20
    assert policy.tail_at(61) == policy.tail_at(75) < policy.tail_at(60)  # off the rhythm: a fifth look
    spent = sum(policy.tail_at(15 * look) for look in range(1, 5_000))
    assert 0.0399 < spent < 0.04


def test_margins_by_hand():
    # Won by 4, 2, 2; lost by 3, as firmly as the others are won; and by .1, which says nothing.
    found = drift.of_margins([4.0, 2.0, 2.0, -3.0, -0.1])
    assert found["reward_accuracy"] == 3 / 5
    assert found["disagreement"] == 1 / 5
    assert found["decided"] == 4 / 5


def test_margins_that_are_all_nothing_decide_nothing():
    assert drift.of_margins([0.0, 0.0])["decided"] == 0.0


def test_distinct_n_by_hand():
    assert drift.distinct([[1, 2, 1, 2], [1, 2]], 2) == 2 / 4  # (1,2) (2,1) of four runs
    assert drift.distinct([[1]], 2) == 0.0


def test_token_kl_and_entropy_by_hand():
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert token_kl(p, q).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-5)
    assert entropy(p).item() == pytest.approx(math.log(2))
    assert token_kl(p, p).item() == 0.0


def test_sums_by_answer():
    sums, counts = by_answer(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2]), 3)
    assert (sums.tolist(), counts.tolist()) == ([1.0, 0.0, 6.0], [1, 0, 2])
