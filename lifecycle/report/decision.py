"""A gate decision in a few words, for the end of a run. The whole page is sealed with it: `decision.md`."""

from lifecycle.artifacts import Check, GateDecision

SHOWN_ITEMS = 8


def sentence(decision: GateDecision) -> str:
    """Why the gate decided as it did, in one sentence."""
    against = f"live {decision.against[:12]}" if decision.against else "the floors alone, nothing was live"
    if decision.baseline:
        against = f"the adopted base {decision.baseline[:12]}, nothing was live"
    failed = [f"{check.metric} ({check.rule} {check.verdict})" for check in not_passed(decision)]
    if decision.promote:
        return f"all {len(decision.checks)} checks passed against {against}"
    return f"{', '.join(failed) or 'no check'} did not pass against {against}"


def not_passed(decision: GateDecision) -> list[Check]:
    return [check for check in decision.checks if check.verdict != "PASS"]


def numbers(check: Check) -> str:
    """Candidate, live, and the interval of their difference."""
    parts = [f"candidate {_number(check.candidate)}"]
    if check.live is not None:
        parts.append(f"live {_number(check.live)}")
    if check.difference is not None:
        parts.append(f"difference {check.difference:+.4f}")
    if check.low is not None or check.high is not None:
        parts.append(f"interval [{_number(check.low)}, {_number(check.high)}]")
    return ", ".join(parts)


def items(check: Check) -> str:
    """The items that got worse, a few of them."""
    more = f" and {len(check.items) - SHOWN_ITEMS} more" if len(check.items) > SHOWN_ITEMS else ""
    return ", ".join(check.items[:SHOWN_ITEMS]) + more


def _number(value: float | None) -> str:
    return "unmeasured" if value is None else f"{value:.4f}"
