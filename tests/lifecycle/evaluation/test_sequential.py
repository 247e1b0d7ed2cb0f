"""Bounds of several looks against published ones, and the level they spend."""

import pytest

from lifecycle.evaluation import sequential
from lifecycle.evaluation.sequential import schedule, spent, tails
from lifecycle.evaluation.statistics import quantile


def test_the_bounds_are_those_of_gsdesign(monkeypatch):
    """R package gsDesign, its default: three looks, one-sided 2.5 %, Hwang-Shih-DeCani with -4."""
    monkeypatch.setattr(sequential, "SHAPE", -4.0)
    tails.cache_clear()
    bounds = [quantile(tail) for tail in tails((1 / 3, 2 / 3, 1.0), 0.025)]
    tails.cache_clear()
    assert bounds == pytest.approx([3.0107, 2.5465, 1.9992], abs=1e-4)


def test_one_look_spends_everything():
    assert tails((1.0,), 0.05) == (0.05,)


def test_the_last_look_may_use_less_than_the_level_and_all_looks_together_more():
    """The looks see much the same items, so their errors overlap: tails add up to more than what they use."""
    found = tails(tuple(look / 20 for look in range(1, 21)), 0.05)
    assert list(found) == sorted(found)
    assert found[-1] < 0.05 < sum(found)


def test_the_level_is_spent_late_and_wholly():
    assert spent(0, 0.05) == 0
    assert spent(1, 0.05) == pytest.approx(0.05)
    assert spent(1 / 3, 0.05) < 0.01


@pytest.mark.parametrize(
    ("items", "looks", "counts"), [(100, 4, [25, 50, 75, 100]), (10, 3, [4, 7, 10]), (3, 9, [1, 2, 3])]
)
def test_looks_are_even_and_the_last_has_all_items(items, looks, counts):
    assert schedule(items, looks) == counts
