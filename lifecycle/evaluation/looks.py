"""Which items a gate with several looks asks for next."""

from collections.abc import Collection, Mapping, Sequence

from lifecycle.artifacts import Check
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.evaluation.rules import Rule
from lifecycle.evaluation.sequential import schedule

Items = Mapping[str, int]
"""Items by suite; of a suite that is not named, all."""


def suite_of(metric: str) -> str:
    """The suite, or source of documents, whose items a metric is about."""
    return metric.partition(".")[0]


def decides_once(rule: Rule, looks: int) -> bool:
    """Validation documents are all scored at the first of several looks."""
    return looks > 1 and suite_of(rule.metric) == BITS


def first_look(rules: Sequence[Rule], looks: int, suites: Collection[str]) -> Items:
    """The items of the first planned look, for the suites there are."""
    planned = {suite_of(rule.metric): rule.items for rule in rules if rule.items is not None}
    return {suite: schedule(items, looks)[0] for suite, items in planned.items() if suite in suites}


def next_look(checks: Sequence[Check], taken: Items) -> Items | None:
    """The items of the next look, more of every suite with an open rule; None where no more items could promote."""
    unsettled = [check for check in checks if check.required and check.verdict != "PASS"]
    if not unsettled or any(check.verdict != "INCONCLUSIVE" or check.next_look is None for check in unsettled):
        return None
    wanted = {suite_of(check.metric): check.next_look for check in unsettled if check.next_look is not None}
    return {**taken, **wanted} if wanted.keys() <= taken.keys() else None
