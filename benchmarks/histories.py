"""Simulated models whose true differences are known, and what the gate says of them: arrays of whole histories.

The bounds are the package's own; that whole histories end as the gate ends them is checked by `gate.same_as_the_gate`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.bounded import mean_at_most
from lifecycle.evaluation.pilot import Pilot
from lifecycle.evaluation.power import Course, course, needed, pairs_show
from lifecycle.evaluation.quantities import FEWEST_WITHOUT_BOUNDS
from lifecycle.evaluation.rules import Guard
from lifecycle.evaluation.sequential import schedule, tails
from lifecycle.evaluation.statistics import (
    cautious,
    quantile,
    straightened,
    student_of_clusters,
    student_t,
    tango_score,
)

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
    metrics: int = 5,
    looks: int = 20,
    *,
    spread: float = math.sqrt(CHANGED),
    effect: float = 1.0,
    pairs: bool = True,
    bounds: tuple[float, float] | None = None,
) -> Design:
    known: dict[str, Any] = {"spread": spread, "effect": effect, "bounds": bounds}
    known["changed"] = spread**2 if pairs else None
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


def with_gaps(
    design: Design, difference: float, share: float, whose: str, histories: int, draw: np.random.Generator
) -> NDArray[np.int64]:
    """So far, by (looks, histories): items gained and lost, and missing answers of the candidate where live is right
    and where it is wrong. `the lost`: a candidate that leaves out only what it would have lost."""
    tables = [full_table(draw, step, difference, histories) for step in np.diff([0, *design.counts])]
    lost = chances(difference)[1]
    rates = np.full(4, share) if whose == "at random" else np.array([0, 0, min(1.0, share / lost), 0])
    gone = [draw.binomial(table, rates) for table in tables]
    seen = [table - away for table, away in zip(tables, gone, strict=True)]
    parts = [
        np.stack([s[:, 1], s[:, 2], g[:, 0] + g[:, 2], g[:, 1] + g[:, 3]], 1) for s, g in zip(seen, gone, strict=True)
    ]
    return np.cumsum(parts, axis=0)


def judged_with_gaps(design: Design, sides: NDArray[np.int64]) -> tuple[Course, NDArray[np.bool_]]:
    """What is missing counts against the candidate where it is to be shown to hold, and for it where to be worse."""
    held, broken = list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    for n, now, hold, harm in zip(
        design.counts, sides, design.tails(ALPHA), design.tails(ALPHA / design.metrics), strict=True
    ):
        gained, lost, may_be_lost, may_be_gained = now.T
        held.append(pairs_show(gained, lost + may_be_lost, n, -MARGIN, hold))
        broken.append(pairs_show(lost, gained + may_be_gained, n, 0.0, harm))
    worse = np.array(broken).T
    return course(np.array(held).T, worse), np.asarray(worse.any(1))


def in_clusters(
    design: Design,
    difference: float,
    size: int,
    agree: float,
    histories: int,
    draw: np.random.Generator,
    changed: float = CHANGED,
) -> NDArray[np.int64]:
    """Items gained and lost by (history, cluster). With probability `agree` every item of a cluster does as the first:
    that is the correlation of two of them."""
    clusters = math.ceil(design.counts[-1] / size)
    sides = chances(difference, changed)
    alone = draw.multinomial(size, sides, (histories, clusters))[..., :2].astype(np.int16)
    alike = draw.multinomial(1, sides, (histories, clusters))[..., :2].astype(np.int16) * size
    return np.where(draw.random((histories, clusters, 1)) < agree, alike, alone)


def judged_clusters(design: Design, sides: NDArray[np.int64], size: int) -> tuple[Course, NDArray[np.bool_]]:
    """The course of a guard, and whether it was ever shown worse."""
    clusters = [math.ceil(n / size) for n in design.counts]
    net = (sides[..., 0] - sides[..., 1]).astype(float)
    so_far = np.array([c - 1 for c in clusters])
    gained, lost = (np.cumsum(sides[..., k], axis=1, dtype=np.int64)[:, so_far] for k in (0, 1))
    squares = np.cumsum(net**2, axis=1)[:, so_far]
    held, broken = list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    for look, (groups, hold, harm) in enumerate(
        zip(clusters, design.tails(ALPHA), design.tails(ALPHA / design.metrics), strict=True)
    ):
        items, g, c = groups * size, gained[:, look], lost[:, look]
        mean = (g - c) / items
        spread = g + c - items * mean**2
        effect = groups / (groups - 1) * (squares[:, look] - groups * (size * mean) ** 2) / np.maximum(spread, 1e-12)
        # Without any spread clusters are taken to repeat one item, as `statistics.effective_share` does.
        effect = np.where(spread > 1e-9, np.maximum(1.0, effect), size)
        for tail, bar, (up, down), into in ((hold, -MARGIN, (g, c), held), (harm, 0.0, (c, g), broken)):
            part = (student_t(tail, items - 1) / student_of_clusters(tail, groups)) ** 2 / effect
            into.append(tango_score(up * part, down * part, items * part, bar) > quantile(tail))
    worse = np.array(broken).T
    return course(np.array(held).T, worse), np.asarray(worse.any(1))


def picked(design: Design, pool: NDArray[Any], histories: int, draw: np.random.Generator) -> NDArray[Any]:
    """Changes of scores by (history, item)."""
    return pool[draw.integers(len(pool), size=(histories, design.items))]


def judged_scores(design: Design, changes: NDArray[Any], margin: float, *, bounded: bool) -> Course:
    """A guard on their mean: as `statistics.mean_at_most` shows it within -1 and 1, else as `skewed_ratio` does."""
    held = np.zeros((len(changes), design.looks), bool)
    broken = np.zeros_like(held)
    show = _bounded if bounded else _skewed
    for look, (n, hold, harm) in enumerate(
        zip(design.counts, design.tails(ALPHA), design.tails(ALPHA / design.metrics), strict=True)
    ):
        left = np.flatnonzero(~(held | broken).any(1))  # what was shown stays shown
        now = changes[left, :n]
        held[left, look] = show(now, -margin, hold)
        broken[left, look] = show(-now, 0.0, harm)
    return course(held, broken)


def _bounded(changes: NDArray[Any], bar: float, tail: float) -> NDArray[np.bool_]:
    is_known = np.ptp(changes, axis=1) > 0
    return np.asarray(is_known & (mean_at_most(changes, np.ones(changes.shape[1]), bar, worst=-1.0) <= tail))


def _skewed(changes: NDArray[Any], bar: float, tail: float) -> NDArray[np.bool_]:
    n = changes.shape[1]
    if n < FEWEST_WITHOUT_BOUNDS:
        return np.zeros(len(changes), bool)
    mean, spread = changes.mean(1), changes.std(1)
    skew = np.mean((changes - mean[:, None]) ** 3, axis=1) / np.maximum(spread, 1e-300) ** 3
    width = student_t(cautious(tail, n), n - 1) / math.sqrt(n)
    bound = spread * math.sqrt(n / (n - 1)) * np.maximum(width, straightened(width, skew, n))
    return np.asarray((np.ptp(changes, axis=1) > 0) & (mean - bound > bar))
