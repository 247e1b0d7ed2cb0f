"""Every interval against numbers printed by somebody else, and against its own stated error rate."""

import math
import random

import numpy as np
import pytest

from lifecycle.evaluation.statistics import (
    clopper_pearson,
    effective_share,
    exact_tail,
    numbered,
    paired,
    paired_above,
    ratio,
    skewed_ratio,
    student_t,
    tango,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3 (Wilson, no continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_table(right, items, low, high):
    assert wilson(right, items, tail=0.025) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("gained", "lost", "items", "tail", "low", "high"),
    [
        # Airway hyper-responsiveness before and after stem cell transplantation: Fagerland, Lydersen and Laake 2014,
        # Statistics in Medicine 33:2850-2875, the Tango interval of their first example.
        (1, 7, 21, 0.025, -0.517, -0.026),
        # R package PropCIs, scoreci.mp(60, 20, 1000) and scoreci.mp(25, 28, 618) at 90 %; it subtracts the other way.
        (20, 60, 1000, 0.025, -0.0584, -0.0231),
        (28, 25, 618, 0.05, -0.0148, 0.0247),
    ],
)
def test_tango_gives_published_intervals(gained, lost, items, tail, low, high):
    assert tango(gained, lost, items, tail=tail) == pytest.approx((low, high), abs=6e-5 if items > 100 else 6e-4)


def test_tango_mirrors_when_gains_and_losses_change_places():
    low, high = tango(3, 11, 50, tail=0.05)
    assert tango(11, 3, 50, tail=0.05) == pytest.approx((-high, -low))


def test_tango_has_width_when_nothing_changed():
    z = 1.6448536
    edge = z * z / (200 + z * z)  # solved by hand for gained = lost = 0
    assert tango(0, 0, 200, tail=0.05) == pytest.approx((-edge, edge), abs=1e-6)


def test_tango_reaches_the_ends_of_its_range_and_no_further():
    assert tango(5, 0, 5, tail=0.025).high == 1.0
    assert tango(0, 5, 5, tail=0.025).low == -1.0


@pytest.mark.parametrize(
    ("tail", "freedom", "value"),
    # Printed in every table of the t distribution.
    [(0.05, 1, 6.314), (0.025, 2, 4.303), (0.05, 9, 1.833), (0.025, 9, 2.262), (0.005, 30, 2.750), (0.05, 1000, 1.646)],
)
def test_student_t_gives_the_table(tail, freedom, value):
    assert student_t(tail, freedom) == pytest.approx(value, abs=5e-4)


def test_ratio_of_equal_sizes_is_students_interval():
    # Student 1908, "The probable error of a mean", the additional hours of sleep; interval as R's t.test prints it.
    hours = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert ratio(hours, np.ones(10), tail=0.025) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_ratio_weighs_items_by_their_size():
    # Two documents of 10 and 30 bytes with 30 and 60 bits: R = 90/40 = 2.25, residuals 30 - 22.5 and 60 - 67.5 = +-7.5,
    # standard error sqrt(2/1 * 2 * 7.5^2) / 40 = 0.375, t(0.05, 1) = 6.314.
    low, high = ratio(np.array([30.0, 60.0]), np.array([10, 30]), tail=0.05)
    assert (low, high) == pytest.approx((2.25 - 6.3138 * 0.375, 2.25 + 6.3138 * 0.375), abs=1e-3)


def test_stated_error_rates_are_kept():
    """A one-sided bound at tail 0.05 misses the truth in about 5 % of histories (4 standard errors allowed)."""
    draw, histories = random.Random(0), 1000
    slack = 4 * math.sqrt(0.05 * 0.95 / histories)
    missed = {"share": 0, "difference": 0, "rate": 0}
    for _ in range(histories):
        right = sum(draw.random() < 0.9 for _ in range(200))
        missed["share"] += wilson(right, 200, tail=0.05).low > 0.9
        changed = draw.choices((1, -1, 0), (0.10, 0.15, 0.75), k=200)
        missed["difference"] += tango(changed.count(1), changed.count(-1), 200, tail=0.05).low > -0.05
        sizes = np.array([draw.uniform(200, 1000) for _ in range(40)])
        missed["rate"] += ratio(sizes * np.array([draw.gauss(2.0, 0.3) for _ in range(40)]), sizes, tail=0.05).low > 2.0
    assert {name: count / histories for name, count in missed.items()} == pytest.approx(
        dict.fromkeys(missed, 0.05), abs=slack
    )


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    # Newcombe 1998, table I, method 5 (Clopper-Pearson).
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0000, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_gives_newcombes_table(right, items, low, high):
    assert clopper_pearson(right, items, tail=0.025) == pytest.approx((low, high), abs=5e-5)


def test_a_share_of_all_items_right_has_the_bound_one_can_work_out():
    assert clopper_pearson(20, 20, tail=0.05).low == pytest.approx(0.05 ** (1 / 20))


def test_nothing_lost_shows_little_while_items_are_few():
    """With no change seen in n items, a loss of 5 points is ruled out at 5 % when 0.95^n is below 5 %: from 59 on."""
    assert exact_tail(0, 0, 53, -0.05, tail=0.05) == pytest.approx(0.95**53, abs=0.002)
    assert tango(0, 0, 53, tail=0.05).low > -0.05, "the score bound says so too early"
    assert not paired_above(0, 0, 53, bar=-0.05, tail=0.05)
    assert paired(0, 0, 53, tail=0.05).low < -0.05
    assert paired_above(0, 0, 60, bar=-0.05, tail=0.05)


@pytest.mark.parametrize("items", [25, 60])
def test_a_paired_bound_errs_as_often_as_stated_whatever_changes_sides(items):
    """Every table of so many items, weighed by its probability at a true loss of exactly the margin."""
    tables = [(g, c) for g in range(items + 1) for c in range(items + 1 - g)]
    shown = [(g, c) for g, c in tables if paired_above(g, c, items, bar=-0.1, tail=0.05)]
    for share in (0.1, 0.15, 0.25, 0.4):
        up, down, same = share - 0.1, share, 1.1 - 2 * share
        ways = (math.comb(items, g) * math.comb(items - g, c) for g, c in shown)
        wrong = sum(w * up**g * down**c * same ** (items - g - c) for w, (g, c) in zip(ways, shown, strict=True))
        assert wrong <= 0.05 * 1.02


def test_alone_every_item_counts_and_in_step_only_every_passage():
    values = np.tile([1.0, 1.0, 0.0, 0.0], 25)
    assert effective_share(values, numbered([""] * 100), tail=0.05) == 1.0
    in_step = effective_share(values, numbered([str(n // 2) for n in range(100)]), tail=0.05)
    # 50 passages of 2: t(0.05) of 99 degrees of freedom, and t(0.05 x 50 / 100) of 49.
    assert in_step == pytest.approx(0.5 * (1.660 / 2.010) ** 2, abs=0.02)
    unchanged = effective_share(np.zeros(100), numbered([str(n // 5) for n in range(100)]), tail=0.05)
    assert unchanged == pytest.approx(1 / 5 * (1.660 / 2.37) ** 2, abs=0.02)


def test_skew_moves_the_end_it_threatens_and_symmetry_moves_neither():
    left = np.concatenate([np.full(90, 1.0), np.full(10, -9.0)]) + np.linspace(0, 0.1, 100)
    plain, moved = (bound(left, np.ones(100), tail=0.05) for bound in (ratio, skewed_ratio))
    assert moved.low < plain.low - 0.1 * (plain.high - plain.low)
    even = np.linspace(-1, 1, 100)
    assert skewed_ratio(even, np.ones(100), tail=0.05) == pytest.approx(ratio(even, np.ones(100), tail=0.05 / 2))
