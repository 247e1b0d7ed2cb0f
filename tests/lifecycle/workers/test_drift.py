"""What counts as a fall of the contract: the same conversations asked again, looked at many times."""

import random

import pytest

from lifecycle.training.drift import DriftPolicy
from lifecycle.workers.drift import shown_fall


def answers(lost: int, gained: int, items: int) -> tuple[list[bool], list[bool]]:
    """Before and now: so many lost, so many gained, the rest right both times."""
    both = items - lost - gained
    return [True] * lost + [False] * gained + [True] * both, [False] * lost + [True] * gained + [True] * both


def test_ten_lost_of_96_at_the_fourth_look_are_no_fall_of_three_points_and_ninety_of_500_are():
    tail = DriftPolicy(every_steps=15).tail_at(60)
    assert shown_fall(*answers(10, 1, 96), tail=tail) < 0.03
    assert shown_fall(*answers(90, 5, 500), tail=tail) > 0.1


def test_what_was_gained_is_held_against_what_was_lost():
    assert shown_fall(*answers(20, 20, 96), tail=0.01) < 0
    assert shown_fall(*answers(40, 0, 96), tail=0.01) > 0.25


@pytest.mark.parametrize("changed", [0.03, 0.13])
def test_a_training_that_loses_just_the_limit_is_stopped_as_seldom_as_was_asked(changed):
    """400 trainings of five looks at 96 conversations; the share that is lost is 3 points above the share gained."""
    policy, draw, stopped = DriftPolicy(every_steps=15, false_alarm=0.05), random.Random(0), 0
    lost_share = (changed + 0.03) / 2
    for _ in range(400):
        for step in (15, 30, 45, 60, 75):
            drawn = [draw.random() for _ in range(96)]
            lost = sum(one < lost_share for one in drawn)
            gained = sum(lost_share <= one < changed for one in drawn)
            if shown_fall(*answers(lost, gained, 96), tail=policy.tail_at(step)) > 0.03:
                stopped += 1
                break
    assert stopped / 400 <= 0.05
