"""How much error each of several looks may use, so that all of them together stay at the stated level.

Group-sequential testing with an error-spending function (Lan and DeMets 1983, Biometrika 70:659-663): looking 20 times
at 5 % each would err in 25 % of histories. The level is spent as `SHAPE` says, little of it early, where intervals from
few items are least exact; what an interval at the look's own tail shows is then shown, and stays so.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import Numbers, quantile

# Of Hwang, Shih and DeCani 1990, Statistics in Medicine 9:1439-1445: -4 is near O'Brien-Fleming, 1 near Pocock. With 20
# looks, an equal model and five guards, -4, -2, -1 and 1 need on average .53, .47, .44 and .40 of the fixed plan, and
# leave 0, 1, 1 and 4 % open at one cap; -2 spends 15 % of the level in the first third of the items, 1 spends 45 %.
SHAPE = -2.0
GRID = 801  # points of the numerical integration: tails good to four digits


def spent(share: float, level: float) -> float:
    """The part of `level` that may be used up once this share of the planned items is in."""
    return level * math.expm1(-SHAPE * min(1.0, share)) / math.expm1(-SHAPE)


def schedule(items: int, looks: int) -> list[int]:
    """The numbers of items at which a metric planned on `items` is looked at, the last one all of them."""
    return sorted({math.ceil(items * look / looks) for look in range(1, looks + 1)})


@cache
def tails(shares: tuple[float, ...], level: float) -> tuple[float, ...]:
    """One tail a look, at rising shares of the items: under the null hypothesis the first crossing of any of these
    bounds has probability `level`.

    By the recursion of Armitage, McPherson and Rowe 1969, JRSS A 132:235-244, on the joint normal distribution of the
    looks (Jennison and Turnbull 2000, Group Sequential Methods, section 19.2). Applied to t and exact bounds as tails,
    the significance level approach of their sections 4.4 and 12.
    """
    if len(shares) == 1:
        return (level,)
    budget = [spent(shares[0], level), *(spent(b, level) - spent(a, level) for a, b in pairwise(shares))]
    budget[-1] += level - sum(budget)
    bound = quantile(budget[0])
    found = [budget[0]]
    points = _grid(bound, shares[0])
    weights = _trapezoid(points) * _normal(points / math.sqrt(shares[0])) / math.sqrt(shares[0])
    for (before, now), use in zip(pairwise(shares), budget[1:], strict=True):
        step = math.sqrt(now - before)
        bound = _bound(points, weights, now, step, use)
        found.append(float(_upper(np.array([bound]))[0]))
        ahead = _grid(bound, now)
        density = _normal((ahead[:, None] - points[None, :]) / step) @ weights / step
        points, weights = ahead, _trapezoid(ahead) * density
    return tuple(found)


def _bound(points: Numbers, weights: Numbers, share: float, step: float, use: float) -> float:
    """The standardised bound that the sum, known to have stayed below all earlier ones, crosses with chance `use`."""
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        crossing = float(weights @ _upper((middle * math.sqrt(share) - points) / step))
        low, high = (middle, high) if crossing > use else (low, middle)
    return (low + high) / 2


def _grid(bound: float, share: float) -> Numbers:
    return np.linspace(-8 * math.sqrt(share), bound * math.sqrt(share), GRID)


def _trapezoid(points: Numbers) -> Numbers:
    weights = np.full(len(points), points[1] - points[0])
    weights[[0, -1]] /= 2
    return weights


def _normal(z: NDArray[np.float64]) -> Numbers:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _upper(z: Sequence[float] | Numbers) -> Numbers:
    """P(Z > z)."""
    return np.array([math.erfc(x / math.sqrt(2)) / 2 for x in z])
