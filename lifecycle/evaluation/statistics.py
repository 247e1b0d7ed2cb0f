"""Intervals for what an evaluation measures. `tail` is the error probability on each side: 0.05 gives a two-sided 90 %
interval, whose lower end is a one-sided 95 % bound.

Standard library and numpy only: a gate must not wait for heavy imports.
"""

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BISECTIONS = 52  # halvings of an interval of at most 2: down to the spacing of doubles


class Interval(NamedTuple):
    low: float
    high: float


def wilson(right: int, items: int, *, tail: float) -> Interval:
    """Score interval for a share. Never of zero width: 0 of 20 right leaves a share of up to 0.161 at tail 0.025.

    Wilson 1927, "Probable inference", JASA 22:209-212; the formula is method 3 of Newcombe 1998, Statistics in
    Medicine 17:857-872.
    """
    z = NormalDist().inv_cdf(1 - tail)
    share, shrink = right / items, 1 + z * z / items
    centre = (share + z * z / (2 * items)) / shrink
    half = z * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items)) / shrink
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


@cache
def tango(gained: int, lost: int, items: int, *, tail: float) -> Interval:
    """Score interval for (gained - lost) / items, where the same items were answered twice and both or neither right
    is the rest. With no item changed it still has width, z^2 / (items + z^2) on each side.

    Tango 1998, Statistics in Medicine 17:891-908, equations 24 to 26 (with b = gained, c = lost, Delta negated).
    """
    z = NormalDist().inv_cdf(1 - tail)
    observed = (gained - lost) / items

    def score(difference: float) -> float:
        """How many standard errors the observed difference lies above this one; falls as the difference grows."""
        b = -gained - lost + (2 * items - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        # What the share of lost items would be if this were the difference: the root of 2n q^2 + b q + c = 0.
        share_lost = (math.sqrt(max(0.0, b * b - 8 * items * c)) - b) / (4 * items)
        variance = items * (2 * share_lost + difference * (1 - difference))
        distance = gained - lost - items * difference
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    return Interval(
        low=-1.0 if observed <= -1 else _root(lambda d: score(d) - z, -1.0, observed),
        high=1.0 if observed >= 1 else _root(lambda d: score(d) + z, observed, 1.0),
    )


def ratio(numerators: NDArray[Any], denominators: NDArray[Any], *, tail: float) -> Interval:
    """t-interval for sum(numerators) / sum(denominators) over independent items; all denominators equal to 1 make it
    Student's interval for a mean. Zero width when no item deviates: the caller must not take that for certainty.

    Cochran 1977, Sampling Techniques, 3rd edition, section 2.11 (estimation of a ratio), without finite correction.
    """
    items, total = len(numerators), float(np.sum(denominators))
    estimate = float(np.sum(numerators)) / total
    residuals = np.asarray(numerators, float) - estimate * np.asarray(denominators, float)
    error = math.sqrt(items / (items - 1) * float(np.sum(residuals**2))) / total
    half = student_t(tail, items - 1) * error
    return Interval(estimate - half, estimate + half)


@cache
def student_t(tail: float, freedom: int) -> float:
    """What a t-distributed number with this many degrees of freedom exceeds with probability `tail` (below 0.5)."""
    # P(T > t) = I_x(freedom/2, 1/2) / 2 with x = freedom / (freedom + t^2) (Abramowitz and Stegun 1964, 26.7.1).
    x = _root(lambda x: 2 * tail - _incomplete_beta(freedom / 2, 0.5, x), 0.0, 1.0)
    return math.sqrt(freedom * (1 - x) / x)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below its mode
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    fraction = 1.0
    for m in range(200, 0, -1):  # from the innermost term outwards
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return front / (a * fraction)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero between `low` and `high`."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
