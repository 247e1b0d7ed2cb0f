"""Bounds on the mean of scores that cannot leave a known range: no shape of them is assumed.

Student's bound trusts the spread that it sees. A loss that one item in fifty carries is not in it while none of twenty
items has met it; here one item that nobody has seen always stands at the end of the range.
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import Interval, Numbers, root

SADDLEPOINT = 30  # Newton's steps, or halvings: 12 give six digits where the items are much alike


def mean_at_most(sums: NDArray[Any], sizes: NDArray[Any], bar: Any, *, worst: float) -> Numbers:
    """The smallest tail at which these items show a mean above `bar`, where no score can lie below `worst`.

    Items, or clusters with their sums and sizes, lie across; all axes but the last are taken together.

    Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable",
    Mathematical Methods of Statistics 14:451-467, in the form of Learned-Miller and Thomas 2019 (arXiv 1905.06208):
    items weighted at random by Dirichlet(1, ..., 1), one more that nobody has seen standing at `worst`. It assumes no
    shape: a loss that one item in fifty carries is not passed over because none of twenty shows it. The chance that the
    sum of exponential weights times (item - bar) is negative is taken by its saddlepoint (Lugannani and Rice 1980,
    Advances in Applied Probability 12:475-490).
    """
    bar = np.asarray(bar, float)[..., None]
    unseen = (worst - bar) * np.mean(sizes, axis=-1, keepdims=True)
    apart = sums - bar * sizes
    y = np.concatenate([apart, np.broadcast_to(unseen, (*apart.shape[:-1], 1))], axis=-1)
    least, most = np.minimum(y.min(-1), -1e-300), np.maximum(y.max(-1), 1e-300)
    low, high = 1 / least, 1 / most  # the saddlepoint lies between, where every 1 - s y is above 0
    s = np.zeros_like(low)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # where all lie on one side, and it is clear
        below = _below_zero(y, s, low, high)
    return np.where(y.max(-1) <= 0, 1.0, np.where(y.min(-1) >= 0, 0.0, np.clip(below, 0.0, 1.0)))


def _below_zero(y: Numbers, s: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """P(sum of exponential weights times y < 0), its saddlepoint sought from `s` between `low` and `high`."""
    for _ in range(SADDLEPOINT):  # Newton's step, or half the way where it leaves what is left of the interval
        scaled = y / (1 - s[..., None] * y)
        slope = np.sum(scaled, axis=-1)
        low, high = np.where(slope > 0, low, s), np.where(slope > 0, s, high)
        step = s - slope / np.sum(scaled**2, axis=-1)
        before, s = s, np.where((step > low) & (step < high), step, (low + high) / 2)
        if np.all(np.abs(s - before) <= 1e-9 * np.abs(s)):
            break
    parts = 1 - s[..., None] * y
    deviance = np.copysign(np.sqrt(2 * np.maximum(np.sum(np.log(parts), axis=-1), 1e-12)), s)
    slope = s * np.sqrt(np.sum((y / parts) ** 2, axis=-1))
    slope = np.where(np.abs(slope) < 1e-6, deviance, slope)
    density = np.exp(-deviance * deviance / 2) / math.sqrt(2 * math.pi)
    normal = np.vectorize(NormalDist().cdf, otypes=[float])(deviance)
    return np.asarray(normal + density * (1 / deviance - 1 / slope))


def bounded_mean(sums: NDArray[Any], sizes: NDArray[Any], *, bounds: tuple[float, float], tail: float) -> Interval:
    """Interval for sum(sums) / sum(sizes), of scores within `bounds` and of any shape: see `mean_at_most`."""
    low, high = (bounded_low(side, sizes, worst=w, tail=tail) for side, w in ((sums, bounds[0]), (-sums, -bounds[1])))
    return Interval(low, -high)


def bounded_low(sums: NDArray[Any], sizes: NDArray[Any], *, worst: float, tail: float) -> float:
    """The lower end alone."""
    found = float(np.sum(sums) / np.sum(sizes))
    return root(lambda bar: tail - float(mean_at_most(sums, sizes, bar, worst=worst)), worst, found, halvings=32)
