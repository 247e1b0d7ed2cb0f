"""Intervals for what an evaluation measures. `tail` is the error probability on each side: 0.05 gives a two-sided 90 %
interval, whose lower end is a one-sided 95 % bound.

Standard library and numpy only: a gate must not wait for heavy imports.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

BISECTIONS = 52  # halvings of an interval of at most 2: down to the spacing of doubles
# Up to so many items that changed sides, a paired bound is checked against the exact distribution. Beyond, the score
# bound's own error stays below 1.05 x the stated one (docs/gate.md) and the exact sum costs more than it is worth.
SPARSE = 40
NUISANCES = 15  # values of the unknown share of changed items that the exact check tries


class Interval(NamedTuple):
    low: float
    high: float


def quantile(tail: float) -> float:
    """What a standard normal number exceeds with probability `tail`."""
    return NormalDist().inv_cdf(1 - tail)


def wilson(right: float, items: float, *, tail: float) -> Interval:
    """Score interval for a share. Never of zero width: 0 of 20 right leaves a share of up to 0.161 at tail 0.025.

    Wilson 1927, "Probable inference", JASA 22:209-212; the formula is method 3 of Newcombe 1998, Statistics in
    Medicine 17:857-872.
    """
    z = quantile(tail)
    share, shrink = right / items, 1 + z * z / items
    centre = (share + z * z / (2 * items)) / shrink
    half = z * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items)) / shrink
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


@cache
def clopper_pearson(right: float, items: float, *, tail: float) -> Interval:
    """Exact interval for a share: each end misses the truth with probability at most `tail`, at any number of items.

    Clopper and Pearson 1934, Biometrika 26:404-413. Counts need not be whole (see `effective_share`).
    """
    wrong = items - right
    low = root(lambda x: tail - _incomplete_beta(right, wrong + 1, x), 0.0, 1.0) if right > 0 else 0.0
    high = root(lambda x: 1 - tail - _incomplete_beta(right + 1, wrong, x), 0.0, 1.0) if wrong > 0 else 1.0
    return Interval(low, high)


def tango_score(gained: Any, lost: Any, items: Any, difference: Any) -> Numbers:
    """How many standard errors the observed (gained - lost) / items lies above `difference`; arrays broadcast.

    Tango 1998, Statistics in Medicine 17:891-908, equations 24 to 26 (with b = gained, c = lost, Delta negated).
    """
    gained, lost = np.asarray(gained, float), np.asarray(lost, float)
    b = -gained - lost + (2 * items - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    # What the share of lost items would be if this were the difference: the root of 2n q^2 + b q + c = 0.
    share_lost = (np.sqrt(np.maximum(0.0, b * b - 8 * items * c)) - b) / (4 * items)
    variance = items * (2 * share_lost + difference * (1 - difference))
    distance = gained - lost - items * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        score = distance / np.sqrt(np.maximum(variance, 0))
    return np.asarray(np.where(variance > 0, score, np.copysign(np.inf, distance)))


@cache
def tango(gained: float, lost: float, items: float, *, tail: float) -> Interval:
    """Score interval for (gained - lost) / items, where the same items were answered twice and both or neither right
    is the rest. With no item changed it still has width, z^2 / (items + z^2) on each side.
    """
    z, observed = quantile(tail), (gained - lost) / items

    def score(difference: float) -> float:
        return float(tango_score(gained, lost, items, difference))

    return Interval(
        low=-1.0 if observed <= -1 else root(lambda d: score(d) - z, -1.0, observed),
        high=1.0 if observed >= 1 else root(lambda d: score(d) + z, observed, 1.0),
    )


@cache
def paired(gained: float, lost: float, items: float, *, tail: float) -> Interval:
    """Tango's interval; where few items changed, each end is moved out until the exact error is at most `tail`.

    Without it, 0 lost of 53 would show a loss below 5 points, which happens to 6.6 % of models that lost exactly 5.
    """
    low = _paired_low(gained, lost, items, tail=tail)
    return Interval(low, -_paired_low(lost, gained, items, tail=tail))


def paired_above(gained: float, lost: float, items: float, *, bar: float, tail: float) -> bool:
    """Whether (gained - lost) / items is shown to lie above `bar`: by its score, and exactly where few changed."""
    shown = bool(tango_score(gained, lost, items, bar) > quantile(tail))
    if not shown or not _sparse(gained, lost, items):
        return shown
    return exact_tail(round(gained), round(lost), round(items), bar, tail=tail) <= tail


def _paired_low(gained: float, lost: float, items: float, *, tail: float) -> float:
    inner = tango(gained, lost, items, tail=tail).low
    if not _sparse(gained, lost, items) or inner <= -1:
        return inner

    def is_exact(low: float) -> bool:
        return exact_tail(round(gained), round(lost), round(items), low, tail=tail) <= tail

    if is_exact(inner):
        return inner
    outer, used = inner, tail
    while outer > -1 and not is_exact(outer):
        used /= 1.5
        inner, outer = outer, tango(gained, lost, items, tail=used).low
    for _ in range(6):
        middle = (inner + outer) / 2
        inner, outer = (inner, middle) if is_exact(middle) else (middle, outer)
    return outer


def _sparse(gained: float, lost: float, items: float) -> bool:
    return gained + lost <= SPARSE and all(float(count).is_integer() for count in (gained, lost, items))


@cache
def exact_tail(gained: int, lost: int, items: int, difference: float, *, tail: float) -> float:
    """How likely a result at least this good is when `difference` is the truth, at the worst share of changed items.

    Exact unconditional test, tables ordered by Tango's score. The share is searched where the data leave it plausible,
    and what that neglects is added: Berger and Boos 1994, JASA 89:1012-1016.
    """
    neglected = tail / 50
    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    changed = clopper_pearson(gained + lost, items, tail=neglected / 2)
    shares = np.linspace(
        min(max(lowest, (changed.low - difference) / 2), highest),
        min(max(lowest, (changed.high - difference) / 2), highest),
        NUISANCES,
    )
    # Tables beyond this many changed items have no weight at any of these shares.
    mean = items * max(changed.high, abs(difference))
    size = min(items, math.ceil(mean + 6 * math.sqrt(mean) + 10))
    losses, gains = np.meshgrid(np.arange(size + 1), np.arange(size + 1), indexing="ij")
    observed = float(tango_score(gained, lost, items, difference))
    as_good = (losses + gains <= items) & (tango_score(gains, losses, items, difference) >= observed - 1e-9)
    losses, gains = losses[as_good], gains[as_good]
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, items + 1)))])
    ways = factorial[items] - factorial[losses] - factorial[gains] - factorial[items - losses - gains]
    chances = np.maximum([shares, shares + difference, 1 - 2 * shares - difference], 1e-300)
    logs = np.stack([losses, gains, items - losses - gains], axis=1) @ np.log(chances)
    return float(np.exp(ways[:, None] + logs).sum(0).max()) + neglected


def ratio(numerators: NDArray[Any], denominators: NDArray[Any], *, tail: float) -> Interval:
    """t-interval for sum(numerators) / sum(denominators) over independent items; all denominators equal to 1 make it
    Student's interval for a mean. Zero width when no item deviates: the caller must not take that for certainty.

    Summed by cluster first, it is the cluster-robust interval: Cochran 1977, Sampling Techniques, 3rd edition,
    sections 2.11 (estimation of a ratio) and 9A.2 (clusters of unequal size), without finite correction.
    """
    items, total = len(numerators), float(np.sum(denominators))
    estimate = float(np.sum(numerators)) / total
    residuals = np.asarray(numerators, float) - estimate * np.asarray(denominators, float)
    error = math.sqrt(items / (items - 1) * float(np.sum(residuals**2))) / total
    half = student_t(tail, items - 1) * error
    return Interval(estimate - half, estimate + half)


def skewed_ratio(numerators: NDArray[Any], denominators: NDArray[Any], *, tail: float) -> Interval:
    """`ratio`, each end moved out where skewed items make Student's bound err more often than stated.

    Hall 1992, JRSS B 54:221-228, section 2 (the cubic transformation), only where it widens; `cautious` of the tail.
    """
    items, plain = len(numerators), ratio(numerators, denominators, tail=cautious(tail, len(numerators)))
    estimate = float(np.sum(numerators) / np.sum(denominators))
    residuals = (numerators - estimate * denominators) / np.mean(denominators)
    spread = float(np.std(residuals))
    if spread == 0 or items < 3:
        return plain
    skew = float(np.mean(residuals**3)) / spread**3
    width = student_t(cautious(tail, items), items - 1) / math.sqrt(items)
    error = spread * math.sqrt(items / (items - 1))
    low, high = (error * float(straightened(width, side, items)) for side in (skew, -skew))
    return Interval(min(plain.low, estimate - low), max(plain.high, estimate + high))


def straightened(width: Any, skew: Any, items: int) -> Numbers:
    """`width`, in standard deviations of an item, through the inverse of Hall's transformation for skewed items."""
    skew = np.where(np.abs(skew) < 1e-6, 1e-6, skew)
    return np.asarray(3 / skew * (np.cbrt(1 + skew * (width - skew / (6 * items))) - 1))


def cautious(tail: float, items: int) -> float:
    """The tail at which a bound on the mean of so few skewed items errs about as often as `tail` says.

    Measured after Hall's correction, log-probabilities with skewness -1 to -2: a bound at 1 % errs 2.7, 1.8 and 1.4
    times as often as stated at 20, 50 and 100 items; over 20 looks at up to 100 to 230 items 5 % are 5 % with this, 6
    to 8 % with 40 in place of 100. Chosen on that model: other skews may need another number.
    """
    return tail * items / (items + 100)


def numbered(labels: Sequence[str]) -> NDArray[np.intp]:
    """A number for every label, equal for equal ones; an item with the label '' is alone."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(label or f"\0{n}", len(seen)) for n, label in enumerate(labels)], dtype=np.intp)


def effective_share(values: NDArray[Any], clusters: NDArray[np.intp], *, tail: float) -> float:
    """The part of the items that counts as independent: 1 where every item is alone, less where clusters agree.

    The design effect of the mean, at least 1, and the fewer degrees of freedom: Korn and Graubard 1998, Survey
    Methodology 24:193-201. Where no item differs from another, clusters are taken to repeat one item.
    """
    items, groups = len(values), int(clusters.max()) + 1
    if groups == items:
        return 1.0
    residuals = values - values.mean()
    sums, sizes = np.bincount(clusters, residuals), np.bincount(clusters)
    spread = float(np.sum(residuals**2))
    effect = groups / (groups - 1) * float(np.sum(sums**2)) / spread if spread > 0 else float(np.sum(sizes**2)) / items
    return (student_t(tail, items - 1) / student_of_clusters(tail, groups)) ** 2 / max(1.0, effect)


def student_of_clusters(tail: float, groups: int) -> float:
    """What takes the place of Student's quantile where clusters are few and most of them show nothing.

    Measured on clusters of 8 that agree (correlation 0.3), where one item in ten is lost and none gained: at one look
    at 25, 50 and 100 of them Student's errs in 13, 11 and 8 % of histories for 5 %; at this tail in 6, 8 and 6 %.
    Where items go both ways it is below 5 %.
    """
    return student_t(tail * groups / (groups + 50), groups - 1)


@cache
def student_t(tail: float, freedom: int) -> float:
    """What a t-distributed number with this many degrees of freedom exceeds with probability `tail` (below 0.5)."""
    # P(T > t) = I_x(freedom/2, 1/2) / 2 with x = freedom / (freedom + t^2) (Abramowitz and Stegun 1964, 26.7.1).
    x = root(lambda x: 2 * tail - _incomplete_beta(freedom / 2, 0.5, x), 0.0, 1.0)
    return math.sqrt(freedom * (1 - x) / x)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below its mode
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    fraction = 1.0
    for m in range(60 + int(3 * math.sqrt(a + b)), 0, -1):  # from the innermost term outwards
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return front / (a * fraction)


def root(falling: Callable[[float], float], low: float, high: float, halvings: int = BISECTIONS) -> float:
    """Where a falling function crosses zero between `low` and `high`."""
    for _ in range(halvings):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
