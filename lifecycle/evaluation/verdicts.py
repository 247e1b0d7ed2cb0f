"""Rules tested on the items themselves, and the verdict that follows, with reasons in plain words.

GO is an intersection-union test: every required rule must be shown to hold at level alpha, so a model at or beyond the
bar of any of them is promoted with probability at most alpha, however many rules there are (Berger 1982, Technometrics
24:295-300). NO is a claim against the model, and many claims need a correction: with Holm's (1979, Scandinavian Journal
of Statistics 6:65-70) the chance of even one false claim stays at alpha, over several looks too (Maurer and Bretz 2013,
Statistics in Biopharmaceutical Research 5:311-320). What is neither is INCONCLUSIVE.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from lifecycle.artifacts import Check
from lifecycle.errors import ConfigError
from lifecycle.evaluation.evidence import Evidence, ShareDifference, difference
from lifecycle.evaluation.rules import Ceiling, Floor, Guard, Rule, Target, compares
from lifecycle.evaluation.sequential import schedule, tails
from lifecycle.evaluation.statistics import Interval

SHOWN_ITEMS = 20
# Beyond a hundred times the items there are now, "evaluate more" is no advice.
HOPELESS = 100

Measured = Mapping[str, Evidence]
Verdict = Literal["PROMOTE", "BLOCK", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Claim:
    """A rule with the evidence on it: the score itself, or its difference from the live model's."""

    rule: Rule
    evidence: Evidence | None
    candidate: float | None
    live: float | None
    fault: str | None
    looks: tuple[int, ...] = ()
    """Planned numbers of items, the evidence's own among them; empty where one look at all of them is the plan."""

    def tail(self, level: float) -> float:
        """What this look may use of `level`."""
        if not self.looks:
            return level
        assert self.evidence is not None
        look = self.looks.index(self.evidence.items)
        return tails(tuple(items / self.looks[-1] for items in self.looks), level)[look]

    def holds(self, tail: float) -> bool:
        """Shown to lie beyond the bar, on the good side."""
        known = self._known
        if known.independent < known.fewest:
            return False
        return known.above(self.bar, tail) if known.higher_is_better else known.below(self.bar, tail)

    def misses(self, width: float, tail: float) -> bool:
        """Shown to lie less than `width` beyond the bar."""
        known = self._known
        if known.independent < known.fewest:
            return False
        good = self.bar + (width if known.higher_is_better else -width)
        return known.below(good, tail) if known.higher_is_better else known.above(good, tail)

    @property
    def bar(self) -> float:
        return self.rule.bar(higher_is_better=self._known.higher_is_better)

    @property
    def room(self) -> float:
        """How far the value found is on the good side of the bar."""
        assert self._known.value is not None
        return self._beyond(self._known.value)

    def room_between(self, tail: float) -> Interval:
        ends = sorted(self._beyond(end) for end in self._known.interval(tail))
        return Interval(ends[0], ends[1])

    @property
    def next_look(self) -> int | None:
        """How many items the next planned look stands on."""
        later = [items for items in self.looks if self.evidence is not None and items > self.evidence.items]
        return later[0] if later else None

    @property
    def _known(self) -> Evidence:
        assert self.evidence is not None
        return self.evidence

    def _beyond(self, value: float) -> float:
        return value - self.bar if self._known.higher_is_better else self.bar - value


def check_rules(
    rules: Sequence[Rule],
    found: Measured,
    live: Measured | None,
    *,
    alpha: float,
    looks: int = 1,
    earlier: Sequence[Check] = (),
    partial: Collection[str] = (),
    spoilt: Mapping[str, str] = MappingProxyType({}),
    same_model: bool = False,
) -> list[Check]:
    """Every rule with its verdict; guards and targets only when there is a live model.

    `earlier` are the checks of the look before: what was shown then stays shown, which is how the level was spent.
    `partial` are metrics of which only a part was evaluated: a rule without a planned number does not take a part.
    `spoilt` are metrics that say nothing, each with the reason.
    """
    asked = [rule for rule in rules if live is not None or not compares(rule)]
    shown = {(check.rule, check.metric): check for check in earlier if check.verdict == "PASS"}
    claims = [
        _claim(rule, found, live or {}, looks=looks, partial=rule.metric in partial, same_model=same_model)
        for rule in asked
    ]
    seen = {(str(check.rule), check.metric): check.evaluated for check in earlier if check.evaluated is not None}
    claims = [replace(claim, fault=claim.fault or _looked_before(claim, seen)) for claim in claims]
    claims = [replace(claim, fault=spoilt.get(claim.rule.metric, claim.fault)) for claim in claims]
    shown = {key: check for key, check in shown.items() if check.metric not in spoilt}
    passed = {
        number
        for number, claim in enumerate(claims)
        if (claim.rule.kind, claim.rule.metric) in shown or (claim.fault is None and claim.holds(claim.tail(alpha)))
    }
    broken = _shown_broken(claims, alpha, passed)
    return [
        shown.get((claim.rule.kind, claim.rule.metric))
        or _check(claim, alpha, passed=n in passed, broken=n in broken, rules=len(claims), planned=looks)
        for n, claim in enumerate(claims)
    ]


def verdict(checks: Sequence[Check]) -> Verdict:
    """Of the required rules. Nothing checked, nothing promoted."""
    verdicts = {check.verdict for check in checks if check.required}
    if "FAIL" in verdicts:
        return "BLOCK"
    return "PROMOTE" if verdicts == {"PASS"} else "INCONCLUSIVE"


def _claim(rule: Rule, found: Measured, live: Measured, *, looks: int, partial: bool, same_model: bool) -> Claim:
    score = found.get(rule.metric)
    if score is None:
        known = ", ".join(sorted(found)) or "no metric at all"
        return Claim(rule, None, None, None, f"the report has no metric {rule.metric!r}; it has {known}")
    planned = () if rule.items is None else tuple(schedule(rule.items, looks))
    if (planned or partial) and score.items not in planned:
        names = f"planned are {', '.join(map(str, planned))}" if planned else "the rule names none"
        fault = f"{score.items} {score.unit} are no planned number, {names}: such a look has no known error rate"
        return Claim(rule, None, score.value, None, fault)
    if not compares(rule):
        if score.higher_is_better != isinstance(rule, Floor):
            raise ConfigError(
                f"expected a floor where higher is better and a ceiling where lower is, found a {rule.kind} on "
                f"{rule.metric!r}. Use the other kind."
            )
        _within_reach(rule, score)
        return Claim(rule, score, score.value, None, score.fault, planned)
    theirs = live.get(rule.metric)
    if theirs is None:
        return Claim(rule, None, score.value, None, f"the live model's report has no metric {rule.metric!r}")
    change = difference(score, theirs, same_model=same_model)
    _within_reach(rule, change)
    return Claim(rule, change, score.value, theirs.value, change.fault, planned)


def _looked_before(claim: Claim, seen: Mapping[tuple[str, str], int]) -> str | None:
    """Why a rule that is looked at once cannot be asked again about more items: it would use its level twice."""
    before = seen.get((claim.rule.kind, claim.rule.metric))
    if claim.evidence is None or claim.looks or before in (None, claim.evidence.items):
        return None
    unit = claim.evidence.unit
    return f"{before} {unit} were looked at before, now {claim.evidence.items}, and the rule plans one look at all"


def _within_reach(rule: Rule, evidence: Evidence) -> None:
    """A bar that every model passes, or none, is a slip: a margin of 4 where 4 points of a share are 0.04."""
    bar = rule.bar(higher_is_better=evidence.higher_is_better)
    ends = sorted((bar, bar + (rule.width if evidence.higher_is_better else -rule.width)))
    low, high = evidence.possible
    always = isinstance(rule, Guard) and rule.margin >= (high - low) / 2  # as far apart as two models can lie
    if ends[0] < low or ends[1] > high or always:
        what = "the difference of two models" if compares(rule) else "a model"
        raise ConfigError(
            f"expected a {rule.kind} on {rule.metric!r} between {low:g} and {high:g}, where {what} can lie, found that "
            f"{rule.asks}. Give it in the metric's own unit: 0.04 for 4 points of a share."
        )


def _shown_broken(claims: Sequence[Claim], alpha: float, passed: set[int]) -> set[int]:
    """Numbers of the claims whose rule is shown to be broken, stepping down as Holm does.

    A rule that holds is not held against a model, and does not make the next step easier either.
    """
    open_ends = {n: claim for n, claim in enumerate(claims) if claim.fault is None and n not in passed}
    broken: set[int] = set()
    while open_ends.keys() - broken:
        level = alpha / (len(claims) - len(broken))
        more = {n for n, c in open_ends.items() if c.misses(c.rule.width, c.tail(level))} - broken
        if not more:
            break
        broken |= more
    return broken


def _check(claim: Claim, alpha: float, *, passed: bool, broken: bool, rules: int, planned: int) -> Check:
    """The verdict on one rule, with the reason in plain words."""
    rule, evidence = claim.rule, claim.evidence
    known: dict[str, Any] = {
        "metric": rule.metric,
        "rule": rule.kind,
        "required": rule.required,
        "candidate": claim.candidate,
        "live": claim.live,
    }
    if claim.fault is not None or evidence is None:
        return Check(**known, verdict="UNMEASURED", reason=f"{claim.fault}. Missing evidence is not evidence.")
    tail = claim.tail(alpha)
    low, high = evidence.interval(tail)
    sure = f"at {1 - alpha:.0%} confidence" + (f" over {planned} looks" if planned > 1 and claim.looks else "")
    if passed:
        result, why = "PASS", f"shown to hold {sure}"
    elif broken:
        result, why = "FAIL", f"{_harm(claim, alpha / rules)} {sure}, over {rules} rules together"
    else:
        result, why = "INCONCLUSIVE", _still_needed(claim, alpha, alpha / rules)
    where = f"{1 - 2 * tail:.4g} interval" if claim.looks else f"{1 - 2 * alpha:.0%} interval"
    where += f" [{low:.4f}, {high:.4f}] over {evidence.items} {evidence.unit}"
    if evidence.independent < evidence.items:
        where += f" in {evidence.independent} clusters"
    if evidence.unmeasured:
        where += f", widened for {evidence.unmeasured} that could not be measured"
    return Check(
        **known,
        verdict=result,
        reason=f"{_sentence(claim)}; {where}: {why}.",
        difference=evidence.value if compares(rule) else None,
        low=low,
        high=high,
        evaluated=evidence.items,
        next_look=None if result == "PASS" else claim.next_look,
        items=evidence.worse_items[:SHOWN_ITEMS],
    )


def _harm(claim: Claim, level: float) -> str:
    """What was shown against the model; more than the margin only where that much is shown."""
    if claim.misses(0.0, claim.tail(level)):
        return "shown to be broken"
    if isinstance(claim.rule, Floor | Ceiling):
        return f"not shown to hold, and shown to miss the bar with its slack of {claim.rule.slack:g}"
    if isinstance(claim.rule, Target):
        return f"not shown to be better, and shown to be better by less than {claim.rule.by:g}"
    return "not shown to hold, and shown to be worse than the live model"


def _sentence(claim: Claim) -> str:
    """What was found, against what is asked."""
    evidence = claim.evidence
    assert evidence is not None
    if not compares(claim.rule):
        return f"found {claim.candidate:.4f}, {claim.rule.asks}"
    counts = ""
    if isinstance(evidence, ShareDifference):
        counts = f" ({evidence.gained} gained, {len(evidence.worse_items)} lost)"
    found = f"found {claim.candidate:.4f}, live {claim.live:.4f}, difference {evidence.value:+.4f}{counts}"
    return f"{found}, {claim.rule.asks}"


def _still_needed(claim: Claim, alpha: float, harm: float) -> str:
    """How many more items would settle it if the score stayed where it is: intervals narrow as 1/sqrt(items)."""
    assert claim.evidence is not None
    unit, found, width = claim.evidence.unit, claim.room, claim.rule.width
    if claim.next_look is not None:
        return f"neither shown nor refuted; evaluate {claim.next_look - claim.evidence.items} more {unit}"
    if claim.evidence.independent < claim.evidence.fewest:
        few = f"{claim.evidence.independent} {unit} that are independent"
        return f"neither shown nor refuted: of a score without bounds {few} show nothing, {claim.evidence.fewest} may"
    if claim.looks:
        return f"neither shown nor refuted at the last of the planned {unit}"
    ways = {
        "to hold": (found - claim.room_between(alpha).low, found),
        "broken": (claim.room_between(harm).high - found, width - found),
    }
    needed = {
        way: max(1, math.ceil(claim.evidence.items * ((half / distance) ** 2 - 1)))
        for way, (half, distance) in ways.items()
        if distance > 0 and half < distance * math.sqrt(HOPELESS)
    }
    if claim.evidence.unmeasured:
        return f"neither shown nor refuted; first measure the {claim.evidence.unmeasured} that are missing"
    if not needed:
        return f"neither shown nor refuted, and so near the bar that more {unit} would hardly settle it"
    way = min(needed, key=lambda name: needed[name])
    return f"neither shown nor refuted; about {needed[way]} more {unit} would show it {way}"
