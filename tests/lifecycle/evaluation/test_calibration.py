"""Calibration against numbers worked by hand, and judges whose confidence is known."""

import math

import numpy as np
import pytest

from lifecycle.evaluation.calibration import calibration, length_alone


def test_the_error_is_the_gap_between_confidence_and_accuracy_weighed_by_pairs():
    """Margins of ln 9 are 90 % sure, of -ln 3 are 75 % sure and wrong: .5 * |1 - .9| + .5 * |0 - .75| = .425."""
    found = calibration([math.log(9)] * 2 + [-math.log(3)] * 2)
    assert found.ece == pytest.approx(0.425)
    assert found.accuracy == 0.5
    assert [one.pairs for one in found.bins] == [2, 2]


def test_a_tie_is_half_right_and_half_sure():
    found = calibration([0.0, 0.0])
    assert (found.accuracy, found.ece) == (0.5, 0.0)


def test_a_perfect_judge_stays_within_chance_and_a_boaster_does_not():
    draws = np.random.default_rng(1)
    sure = draws.uniform(0.5, 4, 400)
    honest = np.where(draws.random(400) < 1 / (1 + np.exp(-sure)), sure, -sure)
    found = calibration(honest.tolist())
    assert found.ece <= found.ece_by_chance
    boaster = calibration((3 * honest).tolist())
    assert boaster.ece_low > boaster.ece_by_chance


def test_length_alone_takes_its_direction_from_training_pairs():
    assert length_alone([(3, 9), (3, 9)], [(2, 5), (2, 5), (5, 2), (4, 4)]) == pytest.approx(2.5 / 4)
    assert length_alone([(9, 3)], [(2, 5), (2, 5), (5, 2), (4, 4)]) == pytest.approx(1.5 / 4)
