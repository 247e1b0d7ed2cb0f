"""Bounds that assume no shape, against their weights drawn, and against the families that are hardest for others."""

from math import comb

import numpy as np
import pytest

from lifecycle.evaluation.bounded import bounded_mean, mean_at_most


def test_a_bounded_mean_is_shown_as_random_weights_would_show_it():
    """Gaffke's weights drawn, 200,000 times, against their saddlepoint."""
    draw = np.random.default_rng(0)
    scores = draw.uniform(-0.2, 0.2, 50)
    weights = draw.exponential(size=(200_000, 51))
    for bar in (-0.06, -0.04, -0.02):
        drawn = float(np.mean(weights @ np.append(scores - bar, -1 - bar) <= 0))
        assert float(mean_at_most(scores, np.ones(50), bar, worst=-1.0)) == pytest.approx(drawn, rel=0.05)


def test_where_no_item_changed_a_bounded_mean_knows_what_it_may_not_have_seen():
    """A loss of everything on one item in twenty leaves 59 items alone with chance 0.95^59."""
    assert float(mean_at_most(np.zeros(59), np.ones(59), -0.05, worst=-1.0)) == pytest.approx(0.95**59, rel=0.01)
    low, high = bounded_mean(np.full(59, 0.5), np.ones(59), bounds=(0.0, 1.0), tail=0.05)
    assert (low, high) == (pytest.approx(0.5 * 0.05 ** (1 / 59), rel=1e-3), pytest.approx(1 - low))


@pytest.mark.parametrize("items", [5, 20, 59, 100, 300])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_bounded_mean_errs_at_most_as_stated_where_all_is_lost_on_a_share_of_the_items(items, share):
    """Exact, by the binomial distribution: the hardest family for every bound that trusts the spread it sees."""
    shown = [
        float(mean_at_most(np.where(np.arange(items) < lost, -1.0, 0.0), np.ones(items), -share, worst=-1.0)) <= 0.05
        for lost in range(items + 1)
    ]
    wrong = sum(comb(items, n) * share**n * (1 - share) ** (items - n) for n in range(items + 1) if shown[n])
    assert wrong <= 0.0505


def test_a_bounded_mean_mirrors_and_stays_within_its_bounds():
    scores = np.linspace(0.1, 0.9, 30) ** 2
    low, high = bounded_mean(scores, np.ones(30), bounds=(0.0, 1.0), tail=0.05)
    assert bounded_mean(1 - scores, np.ones(30), bounds=(0.0, 1.0), tail=0.05) == pytest.approx((1 - high, 1 - low))
    assert 0 < low < scores.mean() < high < 1
    by_cluster, sizes = scores.reshape(6, 5).sum(1), np.full(6, 5.0)
    wide = bounded_mean(by_cluster, sizes, bounds=(0.0, 1.0), tail=0.05)
    assert wide.low < low < high < wide.high
