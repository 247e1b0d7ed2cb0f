"""How the items of a metric behave, read from a pilot or from earlier reports: what a plan of the gate starts from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lifecycle.evaluation.evidence import Evidence, Share, ShareDifference, difference
from lifecycle.evaluation.quantities import Quantity, QuantityDifference
from lifecycle.evaluation.rules import Rule, compares
from lifecycle.evaluation.statistics import Numbers, effective_share


@dataclass(frozen=True)
class Pilot:
    """How the items of one rule's metric behave."""

    rule: Rule
    spread: float
    """Standard deviation of one item: of its score, or of its change where the rule compares with a live model."""
    changed: float | None = None
    """For right and wrong answers compared with a live model's: the share of items that changed sides."""
    room: float | None = None
    """For floors and ceilings: how far the pilot lay on the good side of the bar."""
    share: float | None = None
    """For floors of right answers: the share of them."""
    effect: float = 1.0
    """How many items count as one, where they share passages."""
    missing: float = 0.0
    """Share of items that could not be measured."""
    bounds: tuple[float, float] | None = None
    """For means of scores that have some: how far from its mean an item can lie."""
    available: int = 0

    @property
    def width(self) -> float:
        """From the bar to where a model must not be held back; for a floor without slack, to where the pilot was."""
        return self.rule.width or abs(self.room or 0.0)


def pilot(rule: Rule, found: Mapping[str, Evidence], live: Mapping[str, Evidence] | None) -> Pilot | str:
    """What reports say about a rule's items, or why they say nothing.

    Without a second report two models' answers are taken to be independent: more items than most pairs of models need.
    """
    score = found.get(rule.metric)
    if score is None:
        return f"no report has the metric {rule.metric!r}"
    other = (live or {}).get(rule.metric)
    evidence = difference(score, other, same_model=True) if compares(rule) and other is not None else score
    if evidence.fault or evidence.value is None:
        return evidence.fault or "nothing was measured"
    doubled = 2.0 if compares(rule) and other is None else 1.0
    known = Pilot(
        rule,
        spread=math.sqrt(doubled) * _spread(evidence),
        missing=evidence.unmeasured / evidence.items,
        available=evidence.items,
        effect=_effect(evidence),
        bounds=_bounds_around(evidence),
    )
    if not compares(rule):
        room = evidence.value - rule.bar(higher_is_better=True)
        room = room if evidence.higher_is_better else -room
        return replace(known, room=room, share=evidence.value if isinstance(evidence, Share) else None)
    if isinstance(evidence, ShareDifference):
        return replace(known, changed=float((evidence.filled(0.0) != 0).mean()))
    if isinstance(evidence, Share):
        return replace(known, changed=2 * evidence.value * (1 - evidence.value))
    return known


def _spread(evidence: Evidence) -> float:
    """Standard deviation of one item."""
    match evidence:
        case Share() | ShareDifference():
            # Without any change in the pilot, as if half an item had changed: no pilot shows that none ever will.
            return float(np.sqrt(max(evidence.filled(0.0).var(), 0.5 / evidence.items)))
        case Quantity():
            sums, weights = _by_item(evidence)
            return float(np.std(sums - sums.sum() / weights.sum() * weights) / weights.mean())
    raise TypeError(f"no spread of a {type(evidence).__name__}")


def _effect(evidence: Evidence) -> float:
    """Items that count as one: how much wider clusters make the interval."""
    match evidence:
        case Share() | ShareDifference():
            return 1 / effective_share(evidence.filled(0.0), evidence.groups, tail=0.05)
        case Quantity():
            sums, weights = _by_item(evidence)
            return 1 / effective_share(sums - sums.sum() / weights.sum() * weights, evidence.groups, tail=0.05)
    raise TypeError(f"no clusters of a {type(evidence).__name__}")


def _bounds_around(evidence: Evidence) -> tuple[float, float] | None:
    """How far below and above its mean an item's score can lie."""
    if not isinstance(evidence, Quantity) or not all(map(math.isfinite, evidence.possible)):
        return None
    centre = 0.0 if isinstance(evidence, QuantityDifference) else evidence.value or 0.0
    return evidence.possible[0] - centre, evidence.possible[1] - centre


def _by_item(evidence: Quantity) -> tuple[Numbers, Numbers]:
    return evidence.filled(0), np.array([evidence.weights[item] for item in evidence.sums])
