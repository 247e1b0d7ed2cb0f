"""What the items say about one metric: a value, an interval, and how it differs from another model's on the same items.

Missing items widen an interval as far as they could move it; where that has no bound, `fault` says so instead.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from lifecycle.evaluation.statistics import Interval, ratio, tango, wilson

BitsAndBytes = tuple[float, int]


class Evidence(ABC):
    """A measured quantity. Ask `fault` before `interval`: None means that the interval can be relied on."""

    higher_is_better: ClassVar[bool]
    unit: ClassVar[str]

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

    @property
    def worse_items(self) -> list[str]:
        """For a difference: the items that got worse, the worst first where that has a meaning."""
        return []

    def _nothing_measured(self) -> str | None:
        if self.unmeasured < self.items:
            return None
        return f"none of {self.items} {self.unit} could be measured" if self.items else f"it has no {self.unit}"


@dataclass(frozen=True)
class Share(Evidence):
    """The share of items that are right, by item; None is an item that could not be measured."""

    right: Mapping[str, bool | None]
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "items"

    @property
    def items(self) -> int:
        return len(self.right)

    @property
    def unmeasured(self) -> int:
        return sum(value is None for value in self.right.values())

    @property
    def value(self) -> float | None:
        measured = self.items - self.unmeasured
        return self._right / measured if measured else None

    @property
    def fault(self) -> str | None:
        return self._nothing_measured()

    def interval(self, tail: float) -> Interval:
        """Items that could not be measured count as wrong for the lower end and as right for the upper one."""
        low = wilson(self._right, self.items, tail=tail).low
        return Interval(low, wilson(self._right + self.unmeasured, self.items, tail=tail).high)

    @property
    def _right(self) -> int:
        return sum(value is True for value in self.right.values())


@dataclass(frozen=True)
class ShareDifference(Evidence):
    """The candidate's share of right items minus the live model's."""

    candidate: Share
    live: Share
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "items"

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
        return _other_items(self.candidate.right, self.live.right) or self._nothing_measured()

    def interval(self, tail: float) -> Interval:
        """A pair with a missing side counts as lost for the lower end and as gained for the upper one."""
        gained, lost, missing = self.gained, len(self.worse_items), self.unmeasured
        low = tango(gained, lost + missing, self.items, tail=tail).low
        return Interval(low, tango(gained + missing, lost, self.items, tail=tail).high)

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


@dataclass(frozen=True)
class Rate(Evidence):
    """Bits per byte, all bits over all bytes, by document; None is a document that could not be measured."""

    documents: Mapping[str, BitsAndBytes | None]
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "documents"

    @property
    def items(self) -> int:
        return len(self.documents)

    @property
    def unmeasured(self) -> int:
        return sum(pair is None for pair in self.documents.values())

    @property
    def value(self) -> float | None:
        pairs = self._measured
        return sum(bits for bits, _ in pairs) / sum(size for _, size in pairs) if pairs else None

    @property
    def fault(self) -> str | None:
        return self._nothing_measured() or _no_bound(self) or _no_spread([bits / size for bits, size in self._measured])

    def interval(self, tail: float) -> Interval:
        bits, sizes = zip(*self._measured, strict=True)
        return ratio(np.array(bits), np.array(sizes), tail=tail)

    @property
    def _measured(self) -> list[BitsAndBytes]:
        return [pair for pair in self.documents.values() if pair is not None]


@dataclass(frozen=True)
class RateDifference(Evidence):
    """The candidate's bits per byte minus the live model's. Above zero is worse."""

    candidate: Rate
    live: Rate
    same_model: bool
    """Both are the same weights: then a difference of zero everywhere is knowledge, and not a broken evaluation."""
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "documents"

    @property
    def items(self) -> int:
        return self.candidate.items

    @property
    def unmeasured(self) -> int:
        return self.items - len(self._differences)

    @property
    def value(self) -> float | None:
        pairs = list(self._differences.values())
        return sum(bits for bits, _ in pairs) / sum(size for _, size in pairs) if pairs else None

    @property
    def fault(self) -> str | None:
        fault = _other_items(self.candidate.documents, self.live.documents) or self._nothing_measured()
        spread = [bits / size for bits, size in self._differences.values()]
        return fault or _no_bound(self) or (None if self.same_model and not any(spread) else _no_spread(spread))

    def interval(self, tail: float) -> Interval:
        if self.same_model and not any(bits for bits, _ in self._differences.values()):
            return Interval(0.0, 0.0)
        bits, sizes = zip(*self._differences.values(), strict=True)
        return ratio(np.array(bits), np.array(sizes), tail=tail)

    @property
    def worse_items(self) -> list[str]:
        """Documents that take more bits than before, those with the most first."""
        grown = {item: bits for item, (bits, _) in self._differences.items() if bits > 0}
        return sorted(grown, key=lambda item: -grown[item])

    @cached_property
    def _differences(self) -> dict[str, BitsAndBytes]:
        pairs = ((item, now, self.live.documents.get(item)) for item, now in self.candidate.documents.items())
        return {item: (now[0] - then[0], now[1]) for item, now, then in pairs if now is not None and then is not None}


def difference(candidate: Evidence, live: Evidence, *, same_model: bool) -> Evidence:
    """Candidate minus live, paired by item."""
    match candidate, live:
        case Share(), Share():
            return ShareDifference(candidate, live)
        case Rate(), Rate():
            return RateDifference(candidate, live, same_model)
    raise TypeError(f"no difference between {type(candidate).__name__} and {type(live).__name__}")


def _other_items(candidate: Mapping[str, object], live: Mapping[str, object]) -> str | None:
    if candidate.keys() == live.keys():
        return None
    odd = sorted(candidate.keys() ^ live.keys())
    return f"the two reports hold different items, {len(odd)} of them in one only, like {odd[0]!r}"


def _no_bound(evidence: Evidence) -> str | None:
    if not evidence.unmeasured:
        return None
    return f"{evidence.unmeasured} of {evidence.items} {evidence.unit} could not be measured, and bits have no bound"


def _no_spread(values: Sequence[float]) -> str | None:
    """One value, or the same one again and again, says nothing about how much it varies."""
    if len(set(values)) > 1:
        return None
    return f"{len(values)} documents without any spread give no interval"
