"""How far people agree and which system wins, on numbers that can be checked by hand."""

import math

import numpy as np
import pytest

from lifecycle.evaluation.agreement import krippendorff_alpha, share, share_of_clusters, win_rates


def counts(units: str, categories: str) -> np.ndarray:
    """One row a unit, from judgements written one after the other: `aab b` is two units."""
    return np.array([[unit.count(category) for category in categories] for unit in units.split()])


def test_alpha_of_two_people_on_ten_yes_or_no_units_is_krippendorffs_worked_example():
    """Krippendorff 2011, section A: 4 of 10 units differ; values 0 and 1 occur 14 and 6 times: 1 - 19 x 8/2 / 84."""
    found = krippendorff_alpha(counts("01 11 01 00 00 00 00 01 10 00", "01"))
    assert found.value == pytest.approx(1 - 19 * 4 / (14 * 6), abs=1e-12)
    assert round(found.value, 3) == 0.095


def test_alpha_of_four_people_with_gaps_is_krippendorffs_worked_example():
    """Krippendorff 2011, section C: four people, twelve units, five categories, missing values: alpha = .743."""
    units = "111 2232 3333 3333 2222 1234 4444 1121 2222 555 11 3"
    found = krippendorff_alpha(counts(units, "12345"))
    assert round(found.value, 3) == 0.743
    assert found.of == 11, "the unit with one judgement says nothing"
    assert found.low < found.value < found.high


def test_alpha_is_unmeasured_where_there_is_nothing_to_compare_chance_with():
    assert krippendorff_alpha(counts("aa aa aa", "ab")).value is None, "one category only"
    assert krippendorff_alpha(counts("a b a", "ab")).value is None, "nothing judged twice"
    assert krippendorff_alpha(np.zeros((0, 3))).value is None


def test_full_agreement_has_no_interval_rather_than_one_of_no_width():
    found = krippendorff_alpha(counts("aa bb aa bb", "ab"))
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_the_interval_of_alpha_covers_the_truth_about_as_often_as_it_says():
    """Three people call a fair coin right with chance .8 each: alpha is the chance-corrected (2 x .8 - 1)^2 = .36."""
    random = np.random.default_rng(1)
    covered = 0
    for seed in range(60):
        truth = random.integers(0, 2, (80, 1))
        said = np.where(random.random((80, 3)) < 0.8, truth, 1 - truth)
        found = krippendorff_alpha(np.stack([3 - said.sum(1), said.sum(1)], 1), seed=seed)
        covered += found.low <= 0.36 <= found.high
    assert 53 <= covered <= 60


def test_two_systems_win_as_often_as_counted_with_half_a_win_added_to_both():
    """7 wins, 2 losses, 1 tie in 10 prompts: (7.5 + .5) / 11."""
    pairs = [(0, 1, 1.0)] * 7 + [(0, 1, 0.0)] * 2 + [(1, 0, 0.5)]
    one, other = win_rates(pairs, [f"p{n}" for n in range(10)], systems=2)
    assert one.value == pytest.approx(8 / 11)
    assert other.value == pytest.approx(3 / 11)
    assert one.low < 8 / 11 < one.high
    assert one.low == pytest.approx(1 - other.high)


def test_three_systems_have_the_strengths_of_a_worked_fixed_point():
    """Wins that follow strengths 4 : 2 : 1 exactly must give them back: a beats b 2 : 1, b beats c 2 : 1, a c 4 : 1."""
    won = {(0, 1): (200, 100), (1, 2): (200, 100), (0, 2): (400, 100)}
    pairs = [(i, j, float(k < wins)) for (i, j), (wins, lost) in won.items() for k in range(wins + lost)]
    found = win_rates(pairs, [str(n % 20) for n in range(len(pairs))], systems=3)
    exact = [(2 / 3 + 4 / 5) / 2, (1 / 3 + 2 / 3) / 2, (1 / 3 + 1 / 5) / 2]
    assert [rate.value for rate in found] == pytest.approx(exact, abs=0.002), "half a win is all that is added"


def test_a_system_that_always_won_keeps_an_interval_with_width():
    one, _ = win_rates([(0, 1, 1.0)] * 20, [str(n) for n in range(20)], systems=2)
    assert one.value == pytest.approx(20.5 / 21)
    assert one.low < 0.85
    assert one.high == 1.0


def test_votes_on_one_prompt_do_not_count_as_independent():
    pairs = [(0, 1, 1.0)] * 30 + [(0, 1, 0.0)] * 10
    alone = win_rates(pairs, [str(n) for n in range(40)], systems=2)[0]
    together = win_rates(pairs, [str(n // 10) for n in range(40)], systems=2)[0]
    assert together.of == 4
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_systems_that_never_met_have_no_common_scale():
    pairs = [(0, 1, 1.0), (2, 3, 1.0)]
    assert [rate.value for rate in win_rates(pairs, ["p", "q"], systems=4)] == [None] * 4


def test_shares_of_independent_trials_and_of_clusters():
    assert share(0, 0).value is None
    found = share(8, 10)
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.8, 0.444, 0.975)  # Clopper-Pearson's tables
    clustered = share_of_clusters([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert (clustered.value, clustered.of) == (0.5, 2), "each cluster once, whatever its size"
    assert math.isclose(clustered.low, 1 - clustered.high)
