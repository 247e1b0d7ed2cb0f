"""Which step of a ladder of models a difference comes from: each rung is one stage nearer to the good model."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle.evaluation.evidence import Evidence, difference


@dataclass(frozen=True)
class Rung:
    """A model on the way from the bad one to the good one, and what its items say by metric."""

    name: str
    checkpoint: str
    evidence: Mapping[str, Evidence]


@dataclass(frozen=True)
class Effect:
    """By how much a metric moves when one more stage is taken from the good run. None where `fault` says why."""

    metric: str
    stage: str
    value: float | None
    low: float | None
    high: float | None
    fault: str | None = None
    higher_is_better: bool = True

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out that nothing moved."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def effects(rungs: Sequence[Rung], metrics: Sequence[str], *, confidence: float) -> list[Effect]:
    """Per metric a line for every rung after the first, against the one before, and one, `all`, of the last against the
    first. The values of a metric's rungs add up to its `all`.

    The intervals hold together at `confidence`: Bonferroni, over all that is asked.
    """
    steps = [*itertools.pairwise(rungs), *([(rungs[0], rungs[-1])] if len(rungs) > 2 else [])]
    names = [rung.name for rung in rungs[1:]] + (["all"] if len(rungs) > 2 else [])
    tail = (1 - confidence) / 2 / max(1, len(steps) * len(metrics))
    return [
        _effect(metric, name, before, after, tail)
        for metric in metrics
        for name, (before, after) in zip(names, steps, strict=True)
    ]


def accounted(found: Sequence[Effect], metric: str) -> str:
    """Where this metric's difference comes from, in one sentence."""
    steps = [effect for effect in found if effect.metric == metric and effect.stage != "all"]
    shown = sorted((e for e in steps if e.is_shown), key=lambda e: -abs(e.value or 0))
    unknown = [effect.stage for effect in steps if effect.fault is not None]
    if unknown:
        return f"{metric}: cannot tell, {', '.join(unknown)} could not be compared"
    if not shown:
        return f"{metric}: no stage is shown to move it"
    return f"{metric}: " + "; ".join(
        f"{e.stage} moves it by {e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}], for the {_better(e)}" for e in shown
    )


def _effect(metric: str, name: str, before: Rung, after: Rung, tail: float) -> Effect:
    one, other = after.evidence.get(metric), before.evidence.get(metric)
    if one is None or other is None:
        missing = (after if one is None else before).name
        return Effect(metric, name, None, None, None, f"the report of {missing} has no metric {metric!r}")
    if before.checkpoint == after.checkpoint and one.value is not None:
        return Effect(metric, name, 0.0, 0.0, 0.0)  # the same weights
    moved = difference(one, other, same_model=False)
    # Of all that each has measured, not of what both have: else the steps of a metric would not add up.
    value = None if one.value is None or other.value is None else one.value - other.value
    if moved.fault is not None:
        return Effect(metric, name, value, None, None, moved.fault, one.higher_is_better)
    low, high = moved.interval(tail)
    return Effect(metric, name, value, low, high, higher_is_better=one.higher_is_better)


def _better(effect: Effect) -> str:
    return "better" if ((effect.value or 0) > 0) == effect.higher_is_better else "worse"
