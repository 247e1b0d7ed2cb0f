"""Means of scores that are more than right or wrong, and bits per byte: Student's intervals, corrected for skew."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.bounded import bounded_mean, mean_at_most
from lifecycle.evaluation.evidence import Evidence, no_difference, other_items
from lifecycle.evaluation.statistics import (
    Interval,
    Numbers,
    numbered,
    skewed_ratio,
)

BitsAndBytes = tuple[float, int]
Bounds = tuple[float, float]
NO_BOUNDS: Bounds = (-float("inf"), float("inf"))
# Where a score has no bounds, its spread must show in the items there are. Of models at the bar whose loss one item in
# ten or twenty carries, 5 % stated, looks from 3, 20 and 50 items on pass 60 to 80, 20 to 35 and 5 to 8 %
# (docs/gate.md). No number helps where one in a hundred does: use a score with bounds.
FEWEST_WITHOUT_BOUNDS = 50


class Quantity(Evidence):
    """A sum over items divided by another: a mean score, or bits per byte."""

    @property
    def bounds(self) -> Bounds:
        """No item's score lies beyond these."""
        return NO_BOUNDS

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """What each item adds to the denominator."""

    @property
    @abstractmethod
    def sums(self) -> Mapping[str, float | None]:
        """What each item adds to the numerator; None could not be measured."""

    @property
    @abstractmethod
    def groups(self) -> NDArray[np.intp]: ...

    def filled(self, end: int) -> Numbers:
        """The numerators; what is missing stands at the lower (0) or upper (1) bound of a score."""
        return np.array([self.bounds[end] * self.weights[i] if x is None else x for i, x in self.sums.items()])

    @property
    def items(self) -> int:
        return len(self.sums)

    @property
    def unmeasured(self) -> int:
        return sum(value is None for value in self.sums.values())

    @property
    def value(self) -> float | None:
        measured = {item: value for item, value in self.sums.items() if value is not None}
        return sum(measured.values()) / sum(self.weights[item] for item in measured) if measured else None

    @property
    def fault(self) -> str | None:
        fault = self.too_little() or _no_bound(self) or self.out_of_bounds()
        return fault or _no_spread([x / self.weights[i] for i, x in self.sums.items() if x is not None], self.unit)

    @property
    def independent(self) -> int:
        return int(self.groups.max()) + 1 if self.items else 0

    @property
    def possible(self) -> Bounds:
        return self.bounds

    def out_of_bounds(self) -> str | None:
        """A value that cannot be: one such item could carry a mean anywhere."""
        low, high = self.possible
        for item, value in self.sums.items():
            weight = self.weights[item]
            if not weight > 0 or (value is not None and not low * weight <= value <= high * weight):
                return f"{self.unit[:-1]} {item!r} has {value} of {weight:g}, which lies beyond {low:g} to {high:g}"
            if value is not None and not math.isfinite(value):
                return f"{self.unit[:-1]} {item!r} has {value}, which is no number to add"
        return None

    def interval(self, tail: float) -> Interval:
        low, high = (self._ratio(self.filled(end), tail) for end in (0, 1))
        return Interval(max(low.low, self.possible[0]), min(high.high, self.possible[1]))

    def above(self, bar: float, tail: float) -> bool:
        """Tested at the bar itself where the score has bounds: cheaper than an interval, and the same."""
        if not self.is_bounded:
            return super().above(bar, tail)
        sums, sizes = self._by_cluster(self.filled(0))
        return bool(mean_at_most(sums, sizes, bar, worst=self.possible[0]) <= tail)

    def below(self, bar: float, tail: float) -> bool:
        if not self.is_bounded:
            return super().below(bar, tail)
        sums, sizes = self._by_cluster(self.filled(1))
        return bool(mean_at_most(-sums, sizes, -bar, worst=-self.possible[1]) <= tail)

    @property
    def is_bounded(self) -> bool:
        """Then no shape of its scores needs to be assumed."""
        return all(map(math.isfinite, self.possible))

    @property
    def fewest(self) -> int:  # type: ignore[override]
        return 0 if self.is_bounded else FEWEST_WITHOUT_BOUNDS

    def minus(self, live: Evidence, *, same_model: bool) -> Evidence:
        if type(live) is not type(self):
            raise no_difference(self, live)
        return QuantityDifference(self, live, same_model)

    def _ratio(self, sums: Numbers, tail: float) -> Interval:
        by_cluster, sizes = self._by_cluster(sums)
        if self.is_bounded:
            return bounded_mean(by_cluster, sizes, bounds=self.possible, tail=tail)
        return skewed_ratio(by_cluster, sizes, tail=tail)

    def _by_cluster(self, sums: Numbers) -> tuple[Numbers, Numbers]:
        weights = np.array([self.weights[item] for item in self.sums])
        by_cluster, sizes = np.bincount(self.groups, sums), np.bincount(self.groups, weights)
        return np.asarray(by_cluster, float), np.asarray(sizes, float)


@dataclass(frozen=True)
class Mean(Quantity):
    """The mean of a score over items, None where it could not be measured: log-probabilities, rewards, wins.

    With `bounds`, missing items widen the interval; without, one missing item leaves none to rely on.
    """

    values: Mapping[str, float | None]
    clusters: Mapping[str, str] = field(default_factory=dict)
    higher_is_better: bool = True
    bounds: Bounds = NO_BOUNDS
    unit: str = "items"

    @property
    def sums(self) -> Mapping[str, float | None]:
        return self.values

    @cached_property
    def weights(self) -> Mapping[str, float]:
        return dict.fromkeys(self.values, 1.0)

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        return numbered([self.clusters.get(item, "") for item in self.values])


@dataclass(frozen=True)
class Rate(Quantity):
    """Bits per byte, all bits over all bytes, by document; None is a document that could not be measured."""

    documents: Mapping[str, BitsAndBytes | None]
    clusters: Mapping[str, str] = field(default_factory=dict)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "documents"

    @property
    def possible(self) -> Bounds:
        """No text costs less than nothing, and what it may cost has no end."""
        return 0.0, float("inf")

    @cached_property
    def sums(self) -> Mapping[str, float | None]:
        return {item: None if pair is None else pair[0] for item, pair in self.documents.items()}

    @cached_property
    def weights(self) -> Mapping[str, float]:
        return {item: 1.0 if pair is None else float(pair[1]) for item, pair in self.documents.items()}

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        return numbered([self.clusters.get(item, "") for item in self.documents])


@dataclass(frozen=True)
class QuantityDifference(Quantity):
    """The candidate's value minus the live model's, item by item."""

    candidate: Quantity
    live: Quantity
    same_model: bool
    """Both are the same weights: then a difference of zero everywhere is knowledge, and not a broken evaluation."""

    @property
    def higher_is_better(self) -> bool:
        return self.candidate.higher_is_better

    @property
    def unit(self) -> str:
        return self.candidate.unit

    @property
    def bounds(self) -> Bounds:
        return self.candidate.bounds

    @property
    def weights(self) -> Mapping[str, float]:
        return self.candidate.weights

    @property
    def groups(self) -> NDArray[np.intp]:
        return self.candidate.groups

    @cached_property
    def sums(self) -> Mapping[str, float | None]:
        pairs = ((item, now, self.live.sums.get(item)) for item, now in self.candidate.sums.items())
        return {item: None if now is None or then is None else now - then for item, now, then in pairs}

    def filled(self, end: int) -> Numbers:
        return self.candidate.filled(end) - self.live.filled(1 - end)

    @property
    def fault(self) -> str | None:
        fault = other_items(self.candidate.sums, self.live.sums) or self.too_little() or _no_bound(self)
        fault = fault or self.candidate.out_of_bounds() or self.live.out_of_bounds() or self._other_weights()
        return fault or (None if self._unchanged else _no_spread(list(self._known.values()), self.unit))

    def interval(self, tail: float) -> Interval:
        return Interval(0.0, 0.0) if self._unchanged else super().interval(tail)

    @property
    def is_bounded(self) -> bool:
        return super().is_bounded and not self._unchanged

    @property
    def fewest(self) -> int:  # type: ignore[override]
        return 0 if self._unchanged else super().fewest

    @property
    def worse_items(self) -> list[str]:
        """Items whose score got worse, those by the most first."""
        sign = -1 if self.higher_is_better else 1
        worse = {item: sign * change for item, change in self._known.items() if sign * change > 0}
        return sorted(worse, key=lambda item: -worse[item])

    @property
    def possible(self) -> Bounds:
        width = self.bounds[1] - self.bounds[0]
        return -width, width

    def _other_weights(self) -> str | None:
        """Where the same item is of another size in the two reports, where both measured it: another text."""
        for item, value in self.sums.items():
            mine, theirs = self.candidate.weights[item], self.live.weights[item]
            if value is not None and mine != theirs:
                return f"{self.unit[:-1]} {item!r} weighs {mine:g} in one report and {theirs:g} in the other"
        return None

    @property
    def _known(self) -> dict[str, float]:
        return {item: change for item, change in self.sums.items() if change is not None}

    @property
    def _unchanged(self) -> bool:
        return self.same_model and not self.unmeasured and not any(self._known.values())


def _no_bound(evidence: Quantity) -> str | None:
    if not evidence.unmeasured or evidence.bounds != NO_BOUNDS:
        return None
    what = "bits have" if evidence.unit == "documents" else "the score has"
    return f"{evidence.unmeasured} of {evidence.items} {evidence.unit} could not be measured, and {what} no bound"


def _no_spread(values: Sequence[float], unit: str) -> str | None:
    """One value, or the same one again and again, says nothing about how much it varies."""
    if len(set(values)) > 1:
        return None
    return f"{len(values)} {unit} without any spread give no interval"
