"""What the items say about one metric: its value, its interval, and how it differs from another model's on them.

Here: shares of right answers, with exact intervals. Means and rates: `quantities`. All are cluster-robust where items
share a passage. Missing items widen an interval as far as they could move it; where that has no bound, `fault` says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import (
    Interval,
    Numbers,
    clopper_pearson,
    effective_share,
    numbered,
    paired,
    paired_above,
)


class Evidence(ABC):
    """A measured quantity. Ask `fault` before `interval`: None means that the interval can be relied on."""

    @property
    @abstractmethod
    def higher_is_better(self) -> bool: ...

    @property
    @abstractmethod
    def unit(self) -> str:
        """What the items are called."""

    @property
    @abstractmethod
    def possible(self) -> tuple[float, float]:
        """Beyond these it cannot lie, whatever the model."""

    fewest: int = 0
    """With fewer independent items the interval is no ground to decide on."""

    @property
    @abstractmethod
    def items(self) -> int:
        """Items it should stand on, measured or not."""

    @property
    @abstractmethod
    def unmeasured(self) -> int: ...

    @property
    @abstractmethod
    def value(self) -> float | None:
        """Over the measured items; None when there are none."""

    @property
    @abstractmethod
    def fault(self) -> str | None:
        """Why there is no interval to rely on, in plain words."""

    @abstractmethod
    def interval(self, tail: float) -> Interval: ...

    def above(self, bar: float, tail: float) -> bool:
        """Whether it is shown to lie above `bar`, which happens with probability at most `tail` where it does not."""
        return self.interval(tail).low > bar

    def below(self, bar: float, tail: float) -> bool:
        return self.interval(tail).high < bar

    @abstractmethod
    def minus(self, live: "Evidence", *, same_model: bool) -> "Evidence":
        """The difference from a live model's, item by item."""

    @property
    def worse_items(self) -> list[str]:
        """For a difference: the items that got worse, the worst first where that has a meaning."""
        return []

    @property
    def independent(self) -> int:
        """Clusters of items that share a passage; an item that shares none is one of its own."""
        return self.items

    def too_little(self) -> str | None:
        if self.unmeasured == self.items:
            return f"none of {self.items} {self.unit} could be measured" if self.items else f"it has no {self.unit}"
        if self.items > self.independent == 1:
            return f"all {self.items} {self.unit} share one passage, and one passage gives no interval"
        return None


@dataclass(frozen=True)
class Share(Evidence):
    """The share of items that are right, by item; None is an item that could not be measured."""

    right: Mapping[str, bool | None]
    clusters: Mapping[str, str] = field(default_factory=dict)
    """The passage an item shares with others; an item without one is alone."""
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "items"
    possible: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def items(self) -> int:
        return len(self.right)

    @property
    def unmeasured(self) -> int:
        return sum(value is None for value in self.right.values())

    @property
    def value(self) -> float | None:
        measured = self.items - self.unmeasured
        return sum(value is True for value in self.right.values()) / measured if measured else None

    @property
    def fault(self) -> str | None:
        return self.too_little()

    def interval(self, tail: float) -> Interval:
        """Items that could not be measured count as wrong for the lower end and as right for the upper one."""
        low, high = (self._exact(self.filled(missing), tail) for missing in (0.0, 1.0))
        return Interval(low.low, high.high)

    @property
    def independent(self) -> int:
        return int(self.groups.max()) + 1 if self.items else 0

    def filled(self, missing: float) -> Numbers:
        """1 where right, 0 where wrong, `missing` where not measured."""
        return np.array([missing if value is None else float(value) for value in self.right.values()])

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        return numbered([self.clusters.get(item, "") for item in self.right])

    def minus(self, live: Evidence, *, same_model: bool) -> Evidence:
        if not isinstance(live, Share):
            raise no_difference(self, live)
        return ShareDifference(self, live)

    def _exact(self, values: Numbers, tail: float) -> Interval:
        counts = effective_share(values, self.groups, tail=tail)
        return clopper_pearson(float(values.sum()) * counts, len(values) * counts, tail=tail)


@dataclass(frozen=True)
class ShareDifference(Evidence):
    """The candidate's share of right items minus the live model's."""

    candidate: Share
    live: Share
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "items"
    possible: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def items(self) -> int:
        return self.candidate.items

    @property
    def unmeasured(self) -> int:
        return sum(None in pair for pair in self._pairs)

    @property
    def value(self) -> float | None:
        measured = self.items - self.unmeasured
        return (self.gained - len(self.worse_items)) / measured if measured else None

    @property
    def fault(self) -> str | None:
        return other_items(self.candidate.right, self.live.right) or self.too_little()

    def interval(self, tail: float) -> Interval:
        """A missing answer is against the candidate for the lower end, and in its favour for the upper one."""
        low, high = (paired(*self._counts(self.filled(missing), tail), tail=tail) for missing in (0.0, 1.0))
        return Interval(low.low, high.high)

    def above(self, bar: float, tail: float) -> bool:
        """Tested at the bar itself: exact bounds jump, and an end of the interval may lie a hair beyond it."""
        return paired_above(*self._counts(self.filled(0.0), tail), bar=bar, tail=tail)

    def below(self, bar: float, tail: float) -> bool:
        gained, lost, items = self._counts(self.filled(1.0), tail)
        return paired_above(lost, gained, items, bar=-bar, tail=tail)

    @property
    def independent(self) -> int:
        return self.candidate.independent

    @property
    def groups(self) -> NDArray[np.intp]:
        return self.candidate.groups

    def filled(self, missing: float) -> Numbers:
        """+1 where gained, -1 where lost; what is missing is `missing` for the candidate and the opposite for live."""
        mine = [missing if right is None else right for right, _ in self._pairs]
        theirs = [1 - missing if right is None else right for _, right in self._pairs]
        return np.asarray(np.array(mine, float) - np.array(theirs, float))

    @cached_property
    def gained(self) -> int:
        return sum(pair == (True, False) for pair in self._pairs)

    @cached_property
    def worse_items(self) -> list[str]:
        """Right for the live model, wrong for the candidate."""
        return [item for item, pair in zip(self.candidate.right, self._pairs, strict=True) if pair == (False, True)]

    @cached_property
    def _pairs(self) -> list[tuple[bool | None, bool | None]]:
        return [(right, self.live.right.get(item)) for item, right in self.candidate.right.items()]

    def minus(self, live: Evidence, *, same_model: bool) -> Evidence:
        raise no_difference(self, live)

    def _counts(self, values: Numbers, tail: float) -> tuple[float, float, float]:
        """Items gained, lost and all, as many as count as independent."""
        counts = effective_share(values, self.groups, tail=tail)
        return int((values > 0).sum()) * counts, int((values < 0).sum()) * counts, len(values) * counts


def difference(candidate: Evidence, live: Evidence, *, same_model: bool) -> Evidence:
    """Candidate minus live, paired by item."""
    return candidate.minus(live, same_model=same_model)


def other_items(candidate: Collection[str], live: Collection[str]) -> str | None:
    """Where two reports do not hold the same items."""
    odd = sorted(set(candidate) ^ set(live))
    if not odd:
        return None
    return f"the two reports hold different items, {len(odd)} of them in one only, like {odd[0]!r}"


def no_difference(candidate: Evidence, live: Evidence) -> TypeError:
    return TypeError(f"no difference between {type(candidate).__name__} and {type(live).__name__}")
