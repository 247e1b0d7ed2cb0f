"""Simulated models whose true differences are known, and what the gate says of them: arrays of whole histories.

The bounds are the package's own; that whole histories end as the gate ends them is checked by `gate.same_as_the_gate`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.power import Course, Pilot, course, needed, pairs_show
from lifecycle.evaluation.rules import Guard
from lifecycle.evaluation.sequential import schedule, tails
from lifecycle.evaluation.statistics import cautious, quantile, straightened, student_t, tango_score

ALPHA, MARGIN, CHANGED, RIGHT = 0.05, 0.05, 0.30, 0.8


@dataclass(frozen=True)
class Design:
    """How the gate looks: `metrics` guards, `looks` on the way to `items` each."""

    metrics: int
    looks: int
    items: int

    @property
    def counts(self) -> list[int]:
        return schedule(self.items, self.looks)

    def tails(self, level: float) -> tuple[float, ...]:
        return tails(tuple(n / self.items for n in self.counts), level)


def planned(
    metrics: int = 5, looks: int = 20, *, spread: float = math.sqrt(CHANGED), effect: float = 1.0, pairs: bool = True
) -> Design:
    known = {"spread": spread, "effect": effect, "changed": spread**2 if pairs else None}
    guards = [Pilot(Guard(metric=str(n), margin=MARGIN), **known) for n in range(metrics)]
    return Design(metrics, looks, needed(guards, ALPHA, looks)[0] or 0)


def chances(difference: float, changed: float = CHANGED) -> list[float]:
    """Of an item to be gained, lost, or neither."""
    return [(changed + difference) / 2, (changed - difference) / 2, 1 - changed]


def drawn(
    design: Design, difference: float, histories: int, draw: np.random.Generator, changed: float = CHANGED
) -> NDArray[np.int64]:
    """Items gained, lost, unchanged so far: (looks, histories, 3)."""
    steps = np.diff([0, *design.counts])
    return np.cumsum([draw.multinomial(step, chances(difference, changed), histories) for step in steps], axis=0)


def judged(design: Design, sides: NDArray[np.int64]) -> Course:
    """What the gate says of one guard, look by look."""
    hold, harm = design.tails(ALPHA), design.tails(ALPHA / design.metrics)
    each = list(zip(design.counts, sides, hold, harm, strict=True))
    held = [pairs_show(now[:, 0], now[:, 1], n, -MARGIN, h) for n, now, h, _ in each]
    broken = [pairs_show(now[:, 1], now[:, 0], n, 0.0, h) for n, now, _, h in each]
    return course(np.array(held).T, np.array(broken).T)


def full_table(draw: np.random.Generator, items: int, difference: float, histories: int) -> NDArray[np.int64]:
    """Both right, gained, lost, both wrong."""
    gained, lost, _ = chances(difference)
    return draw.multinomial(items, [RIGHT - lost, gained, lost, 1 - RIGHT - gained], histories)


def clustered(
    design: Design, difference: float, size: int, agree: float, histories: int, draw: np.random.Generator
) -> tuple[Course, NDArray[np.bool_]]:
    """Clusters in which, with probability `agree`, every item does as the first: the correlation of two items."""
    clusters = [math.ceil(n / size) for n in design.counts]
    alone = draw.multinomial(size, chances(difference), (histories, clusters[-1]))[..., :2].astype(np.int16)
    alike = draw.multinomial(1, chances(difference), (histories, clusters[-1]))[..., :2].astype(np.int16) * size
    sides = np.where(draw.random((histories, clusters[-1], 1)) < agree, alike, alone)
    net = (sides[..., 0] - sides[..., 1]).astype(float)
    so_far = np.array([c - 1 for c in clusters])
    gained, lost = (np.cumsum(sides[..., k], axis=1, dtype=np.int64)[:, so_far] for k in (0, 1))
    squares = np.cumsum(net**2, axis=1)[:, so_far]
    held, broken = [], []
    for look, (groups, hold, harm) in enumerate(
        zip(clusters, design.tails(ALPHA), design.tails(ALPHA / design.metrics), strict=True)
    ):
        items, g, c = groups * size, gained[:, look], lost[:, look]
        mean = (g - c) / items
        spread = g + c - items * mean**2
        effect = groups / (groups - 1) * (squares[:, look] - groups * (size * mean) ** 2) / np.maximum(spread, 1e-12)
        for tail, bar, (up, down), into in ((hold, -MARGIN, (g, c), held), (harm, 0.0, (c, g), broken)):
            part = (student_t(tail, items - 1) / student_t(tail, groups - 1)) ** 2 / np.maximum(1.0, effect)
            into.append(tango_score(up * part, down * part, items * part, bar) > quantile(tail))
    worse = np.array(broken).T
    return course(np.array(held).T, worse), worse.any(1)


def scored(design: Design, pool: NDArray[Any], margin: float, histories: int, draw: np.random.Generator) -> Course:
    """A guard on the mean of changes drawn from `pool`, as `statistics.skewed_ratio` bounds it."""
    picked = pool[draw.integers(len(pool), size=(histories, design.items))]
    first, second, third = (np.cumsum(picked**power, axis=1) for power in (1, 2, 3))
    held, broken = [], []
    for n, hold, harm in zip(design.counts, design.tails(ALPHA), design.tails(ALPHA / design.metrics), strict=True):
        mean, square, cube = (sums[:, n - 1] / n for sums in (first, second, third))
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        if n < 3:
            held.append(np.zeros(histories, bool))
            broken.append(np.zeros(histories, bool))
            continue
        skew = (cube - 3 * mean * square + 2 * mean**3) / np.maximum(spread, 1e-12) ** 3
        error = spread * math.sqrt(n / (n - 1))
        for tail, side, into in ((hold, 1, held), (harm, -1, broken)):
            width = student_t(cautious(tail, n), n - 1) / math.sqrt(n)
            bound = error * np.maximum(width, straightened(width, side * skew, n))
            into.append(mean - bound > -margin if side == 1 else mean + bound < 0)
    return course(np.array(held).T, np.array(broken).T)
