"""What a policy will do before it is asked: the items every rule needs, and the error rates of all rules together.

From how items behaved in a pilot or in earlier reports. Items of different metrics are simulated as independent; where
they rise and fall together, an equal model is promoted more often than printed, and both stated error rates still hold.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.bounded import bounded_low
from lifecycle.evaluation.looks import decides_once
from lifecycle.evaluation.pilot import Pilot
from lifecycle.evaluation.quantities import FEWEST_WITHOUT_BOUNDS
from lifecycle.evaluation.sequential import schedule, tails
from lifecycle.evaluation.statistics import (
    SPARSE,
    cautious,
    clopper_pearson,
    exact_tail,
    quantile,
    student_t,
    tango_score,
)

Booleans = NDArray[np.bool_]
HISTORIES = 4000
MOST_ITEMS = 10_000_000  # a plan beyond this is none
SAMPLE = 1000  # items from which the width of a bound on a bounded mean is read
# Of a mean without bounds: with a skew of -2, looks at 1 to 28 items err 9 % of the time where 5 % are stated.
FEWEST_ITEMS_OF_A_MEAN = 100


class Rates(NamedTuple):
    """What became of the models of one kind."""

    promoted: float
    blocked: float
    inconclusive: float
    items: float
    """On average, over all suites, as a share of what is planned."""


def needed(pilots: Sequence[Pilot], alpha: float, looks: int) -> list[int | None]:
    """For every rule, the items at which its two bounds meet, so that the last look leaves next to nothing open; None
    where no number would do.

    At the last look a value is shown to hold from z(pass) standard errors above the bar, and shown to miss from z(harm)
    below the bar plus its width: n = ((z(pass) + z(harm)) spread / width)^2.
    """
    shares = tuple(look / looks for look in range(1, looks + 1))
    hold, harm = tails(shares, alpha)[-1], tails(shares, alpha / len(pilots))[-1]
    once = alpha, alpha / len(pilots)
    return [_needed(each, *(once if decides_once(each.rule, looks) else (hold, harm))) for each in pilots]


def simulate(
    pilots: Sequence[Pilot], alpha: float, looks: int, *, histories: int = HISTORIES, seed: int = 0
) -> dict[str, Rates]:
    """Rates of every verdict: for a model as good as asked everywhere, and with one rule at or as far beyond its bar.

    Every pilot's rule must have its planned `items`.
    """
    draw, family = np.random.default_rng(seed), len(pilots)
    truths = {"good": 1.0, "bar": 0.0, "beyond": -1.0}
    played = [
        {name: _play(pilot, at * pilot.width, alpha, family, looks, histories, draw) for name, at in truths.items()}
        for pilot in pilots
    ]
    rates = {"as good as asked": _rates(pilots, [each["good"] for each in played], looks)}
    for number, pilot in enumerate(pilots):
        for name, words in (("bar", "at the bar of"), ("beyond", "beyond the bar of")):
            mixed = [each[name if n == number else "good"] for n, each in enumerate(played)]
            rates[f"{words} {pilot.rule.kind} {pilot.rule.metric}"] = _rates(pilots, mixed, looks)
    return rates


class Course(NamedTuple):
    """At which look a rule was first shown to hold, and to be broken; `looks` where never. One entry a history."""

    held: NDArray[np.intp]
    broken: NDArray[np.intp]


def course(held: Booleans, broken: Booleans) -> Course:
    """From what each look shows, histories down and looks across. What holds first, or at the same look, holds."""
    looks = held.shape[1]
    first_held = np.where(held.any(1), held.argmax(1), looks)
    first_broken = np.where(broken.any(1), broken.argmax(1), looks)
    return Course(first_held, np.where(first_held <= first_broken, looks, first_broken))


def outcome(courses: Sequence[Course], looks: int) -> tuple[Booleans, Booleans, NDArray[np.intp]]:
    """Per history: promoted, blocked, and after how many looks each rule needed no more items."""
    stop = np.min([each.broken for each in courses], axis=0)
    blocked = stop < looks
    promoted = ~blocked & np.all([each.held < looks for each in courses], axis=0)
    return promoted, blocked, np.array([np.minimum(np.minimum(c.held, stop), looks - 1) + 1 for c in courses])


def pairs_show(gained: NDArray[np.intp], lost: NDArray[np.intp], items: int, bar: float, tail: float) -> Booleans:
    """Where these counts show a difference above `bar`, exactly as `statistics.paired` has it."""
    shown = tango_score(gained, lost, items, bar) > quantile(tail)
    for index in np.flatnonzero(shown & (gained + lost <= SPARSE)):
        g, c = int(gained[index]), int(lost[index])
        shown[index] = exact_tail(g, c, items, round(bar, 12), tail=tail) <= tail
    return shown


class _Plan(NamedTuple):
    """Items that count as independent at each look, and the tails of both claims there."""

    items: list[int]
    hold: tuple[float, ...]
    harm: tuple[float, ...]


def _play(
    pilot: Pilot, room: float, alpha: float, family: int, looks: int, histories: int, draw: np.random.Generator
) -> Course:
    """Histories of one rule whose true value lies `room` above its bar."""
    assert pilot.rule.items is not None
    if decides_once(pilot.rule, looks):
        once = _play(pilot, room, alpha, family, 1, histories, draw)
        return Course(*(np.where(shown < 1, 0, looks) for shown in once))
    counts = schedule(pilot.rule.items, looks)
    shares = tuple(n / pilot.rule.items for n in counts)
    effective = [max(2, round(n / pilot.effect)) for n in counts]
    plan = _Plan(effective, tails(shares, alpha), tails(shares, alpha / family))
    if pilot.changed is not None:
        return _play_pairs(pilot, room, plan, histories, draw)
    if pilot.share is not None:
        return _play_share(pilot, room, plan, histories, draw)
    return _play_quantity(pilot, room, plan, histories, draw)


def _play_pairs(pilot: Pilot, room: float, plan: _Plan, histories: int, draw: np.random.Generator) -> Course:
    bar = pilot.rule.bar(higher_is_better=True)
    changed = min(1.0, max(pilot.changed or 0.0, abs(bar + room)))
    chances = [(changed + bar + room) / 2, (changed - bar - room) / 2, 1 - changed]
    drawn = np.cumsum([draw.multinomial(step, chances, histories) for step in np.diff([0, *plan.items])], axis=0)
    held, broken = [], []
    for look, (items, hold, harm) in enumerate(zip(*plan, strict=True)):
        gained, lost, same = drawn[look].T
        missing = np.minimum(round(pilot.missing * items), same)
        held.append(pairs_show(gained, lost + missing, items, bar, hold))
        broken.append(pairs_show(lost, gained + missing, items, -(bar + pilot.rule.width), harm))
    return course(np.array(held).T, np.array(broken).T)


def _play_share(pilot: Pilot, room: float, plan: _Plan, histories: int, draw: np.random.Generator) -> Course:
    bar = (pilot.share or 0.0) - (pilot.room or 0.0)
    truth = min(1.0, max(0.0, bar + room))
    right = np.cumsum([draw.binomial(step, truth, histories) for step in np.diff([0, *plan.items])], axis=0)
    held, broken = [], []
    for look, (items, hold, harm) in enumerate(zip(*plan, strict=True)):
        missing = round(pilot.missing * items)
        held.append(right[look] - missing >= _fewest(items, bar, hold))
        wrong = items - right[look]
        broken.append(wrong - missing >= _fewest(items, 1 - bar - pilot.rule.width, harm))
    return course(np.array(held).T, np.array(broken).T)


def _play_quantity(pilot: Pilot, room: float, plan: _Plan, histories: int, draw: np.random.Generator) -> Course:
    walk = np.cumsum([draw.normal(0, math.sqrt(n), histories) for n in np.diff([0, *plan.items])], axis=0)
    held, broken = [], []
    for look, (items, hold, harm) in enumerate(zip(*plan, strict=True)):
        found = room + pilot.spread * walk[look] / items
        enough = pilot.bounds is not None or items >= FEWEST_WITHOUT_BOUNDS
        held.append(enough & (found - pilot.missing > _half(pilot, hold, items, 0)))
        broken.append(enough & (found + pilot.missing < pilot.rule.width - _half(pilot, harm, items, 1)))
    return course(np.array(held).T, np.array(broken).T)


@cache
def _fewest(items: int, bar: float, tail: float) -> int:
    """The fewest of so many items that, being right, show a share above `bar`; one more than all where none do."""
    low, high = 0, items + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if clopper_pearson(middle, items, tail=tail).low > bar else (middle + 1, high)
    return low


def _needed(pilot: Pilot, hold: float, harm: float) -> int | None:
    room = pilot.width - 2 * pilot.missing
    if room <= 0:
        return None
    items = math.ceil(max(2.0, ((quantile(hold) + quantile(harm)) * pilot.spread / room) ** 2))
    if pilot.changed is None and pilot.share is None:  # bounds on a mean need more than the normal distribution says
        low = FEWEST_ITEMS_OF_A_MEAN if pilot.bounds is None else items
        high = max(low, items)
        while high <= MOST_ITEMS and _half(pilot, hold, high, 0) + _half(pilot, harm, high, 1) > room:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            is_wide = _half(pilot, hold, middle, 0) + _half(pilot, harm, middle, 1) > room
            low, high = (middle, high) if is_wide else (low, middle)
        items = high
    return math.ceil(items * pilot.effect) if items * pilot.effect <= MOST_ITEMS else None


def _half(pilot: Pilot, tail: float, items: int, end: int) -> float:
    """How far the lower (0) or upper (1) bound on a mean lies from it, of items spread as the pilot's."""
    if pilot.bounds is None:
        return student_t(cautious(tail, items), items - 1) * pilot.spread / math.sqrt(items)
    few = min(items, SAMPLE)  # beyond it as the root says, which is a little too wide
    return _half_within(pilot.spread, pilot.bounds[end], tail, few) * math.sqrt(few / items)


@cache
def _half_within(spread: float, end: float, tail: float, items: int) -> float:
    """Of normal items around zero, cut where a score can no longer lie: `end`, below or above."""
    sample = np.array([quantile(1 - (n + 0.5) / items) for n in range(items)])
    sample *= spread / sample.std()
    sample = np.maximum(sample, end) if end < 0 else -np.minimum(sample, end)
    return float(sample.mean()) - bounded_low(sample, np.ones(items), worst=-abs(end), tail=tail)


def _rates(pilots: Sequence[Pilot], courses: Sequence[Course], looks: int) -> Rates:
    required = [n for n, pilot in enumerate(pilots) if pilot.rule.required]
    promoted, blocked, stops = outcome([courses[n] for n in required], looks)
    rules = [pilots[n].rule for n in required]
    planned = [[r.items or 0] * looks if decides_once(r, looks) else schedule(r.items or 0, looks) for r in rules]
    used = sum(np.asarray(counts)[stop - 1] for counts, stop in zip(planned, stops, strict=True))
    share = float(np.mean(used)) / sum(counts[-1] for counts in planned)
    return Rates(float(promoted.mean()), float(blocked.mean()), float(1 - promoted.mean() - blocked.mean()), share)
