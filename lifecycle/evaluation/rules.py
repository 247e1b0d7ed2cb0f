"""Rules a release must keep, each tested on the items themselves.

GO is an intersection-union test: every rule must be shown to hold at level alpha, so a model that breaks any of them is
promoted with probability at most alpha, however many rules there are (Berger 1982, Technometrics 24:295-300). NO is a
claim of harm, and many claims need a correction: with Holm's (1979, Scandinavian Journal of Statistics 6:65-70) the
chance of even one false claim stays at alpha. What is neither shown nor refuted is INCONCLUSIVE.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.artifacts import Check
from lifecycle.errors import ConfigError
from lifecycle.evaluation.evidence import Evidence, ShareDifference, difference
from lifecycle.evaluation.statistics import Interval

SHOWN_ITEMS = 20
# Beyond a hundred times the items there are now, "evaluate more" is no advice.
HOPELESS = 100


class Floor(BaseModel):
    """A score, higher is better, must be shown to lie above `at_least`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["floor"] = "floor"
    metric: str
    at_least: float = Field(allow_inf_nan=False)

    def room(self, value: float, *, higher_is_better: bool) -> float:
        """How far the value is on the good side of the bar."""
        return value - self.at_least


class Ceiling(BaseModel):
    """A score, lower is better, must be shown to lie below `at_most`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ceiling"] = "ceiling"
    metric: str
    at_most: float = Field(allow_inf_nan=False)

    def room(self, value: float, *, higher_is_better: bool) -> float:
        return self.at_most - value


class Guard(BaseModel):
    """A score must be shown to be worse than the live model's by less than `margin`. Waits while nothing is live."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["guard"] = "guard"
    metric: str
    margin: float = Field(gt=0, allow_inf_nan=False, description="In the metric's own unit.")

    def room(self, value: float, *, higher_is_better: bool) -> float:
        """`value` is a difference, candidate minus live."""
        return self.margin + (value if higher_is_better else -value)


Rule = Floor | Ceiling | Guard
Measured = Mapping[str, Evidence]


@dataclass(frozen=True)
class Claim:
    """A rule with the evidence on it: the score itself, or for a guard its difference from the live model's."""

    rule: Rule
    evidence: Evidence | None
    candidate: float | None
    live: float | None
    fault: str | None

    def room(self, tail: float) -> Interval:
        """The interval of what is left on the good side of the bar."""
        assert self.evidence is not None
        ends = sorted(self._room_of(end) for end in self.evidence.interval(tail))
        return Interval(ends[0], ends[1])

    @property
    def room_found(self) -> float:
        assert self.evidence is not None
        assert self.evidence.value is not None
        return self._room_of(self.evidence.value)

    def _room_of(self, value: float) -> float:
        assert self.evidence is not None
        return self.rule.room(value, higher_is_better=self.evidence.higher_is_better)


def check_rules(
    rules: Sequence[Rule], found: Measured, live: Measured | None, *, alpha: float, same_model: bool = False
) -> list[Check]:
    """Every rule with its verdict; guards only when there is a live model. What was not measured is UNMEASURED."""
    asked = [rule for rule in rules if live is not None or not isinstance(rule, Guard)]
    claims = [_claim(rule, found, live or {}, same_model=same_model) for rule in asked]
    broken = _shown_broken(claims, alpha)
    return [_check(claim, alpha, is_broken=number in broken, rules=len(claims)) for number, claim in enumerate(claims)]


def _claim(rule: Rule, found: Measured, live: Measured, *, same_model: bool) -> Claim:
    score = found.get(rule.metric)
    if score is None:
        known = ", ".join(sorted(found)) or "no metric at all"
        return Claim(rule, None, None, None, f"the report has no metric {rule.metric!r}; it has {known}")
    if not isinstance(rule, Guard):
        if score.higher_is_better != isinstance(rule, Floor):
            raise ConfigError(
                f"expected a floor where higher is better and a ceiling where lower is, found a {rule.kind} on "
                f"{rule.metric!r}. Use the other kind."
            )
        return Claim(rule, score, score.value, None, score.fault)
    theirs = live.get(rule.metric)
    if theirs is None:
        return Claim(rule, None, score.value, None, f"the live model's report has no metric {rule.metric!r}")
    change = difference(score, theirs, same_model=same_model)
    return Claim(rule, change, score.value, theirs.value, change.fault)


def _shown_broken(claims: Sequence[Claim], alpha: float) -> set[int]:
    """Numbers of the claims whose rule is shown to be broken, stepping down as Holm does."""
    broken: set[int] = set()
    while len(broken) < len(claims):
        tail = alpha / (len(claims) - len(broken))
        more = {n for n, claim in enumerate(claims) if claim.fault is None and claim.room(tail).high < 0} - broken
        if not more:
            break
        broken |= more
    return broken


def _check(claim: Claim, alpha: float, *, is_broken: bool, rules: int) -> Check:
    """The verdict on one rule, with the reason in plain words."""
    rule, evidence = claim.rule, claim.evidence
    known: dict[str, Any] = {
        "metric": rule.metric,
        "rule": rule.kind,
        "candidate": claim.candidate,
        "live": claim.live,
    }
    if claim.fault is not None or evidence is None:
        return Check(**known, verdict="UNMEASURED", reason=f"{claim.fault}. Missing evidence is not evidence.")
    low, high = evidence.interval(alpha)
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    if claim.room(alpha).low > 0:
        verdict, why = "PASS", f"shown to hold at {1 - alpha:.0%} confidence"
    elif is_broken:
        verdict, why = "FAIL", f"shown to be broken at {1 - alpha:.0%} confidence, over {rules} rules together"
    else:
        verdict, why = "INCONCLUSIVE", _still_needed(claim, alpha)
    where = f"{1 - 2 * alpha:.0%} interval [{low:.4f}, {high:.4f}] over {evidence.items} {evidence.unit}"
    if evidence.unmeasured:
        where += f", widened for {evidence.unmeasured} that could not be measured"
    return Check(
        **known,
        verdict=verdict,
        reason=f"{_sentence(claim)}; {where}: {why}.",
        difference=evidence.value if isinstance(rule, Guard) else None,
        low=low,
        high=high,
        items=evidence.worse_items[:SHOWN_ITEMS],
    )


def _sentence(claim: Claim) -> str:
    """What was found, against what is asked."""
    evidence = claim.evidence
    assert evidence is not None
    match claim.rule:
        case Floor(at_least=bar):
            return f"found {claim.candidate:.4f}, more than {bar:g} is asked"
        case Ceiling(at_most=bar):
            return f"found {claim.candidate:.4f}, less than {bar:g} is asked"
        case Guard(margin=margin):
            counts = ""
            if isinstance(evidence, ShareDifference):
                counts = f" ({evidence.gained} gained, {len(evidence.worse_items)} lost)"
            found = f"found {claim.candidate:.4f}, live {claim.live:.4f}, difference {evidence.value:+.4f}{counts}"
            return f"{found}, worse by less than {margin:g} is asked"


def _still_needed(claim: Claim, alpha: float) -> str:
    """How many more items would settle it if the score stayed where it is: intervals narrow as 1/sqrt(items)."""
    assert claim.evidence is not None
    unit, room, found = claim.evidence.unit, claim.room(alpha), claim.room_found
    half = found - room.low if found > 0 else room.high - found
    if abs(found) * math.sqrt(HOPELESS) < half:
        return f"neither shown nor refuted, and so near the bar that more {unit} would hardly settle it"
    more = max(1, math.ceil(claim.evidence.items * ((half / found) ** 2 - 1)))
    return f"neither shown nor refuted; about {more} more {unit} would show it {'to hold' if found > 0 else 'broken'}"
