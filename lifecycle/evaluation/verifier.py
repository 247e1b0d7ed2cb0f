"""How good an answer is, decided by a program: it ranks sampled answers, and labels are held against it."""

from collections.abc import Sequence

from lifecycle.data.comparisons_report import Verified
from lifecycle.data.conversations import answer_key
from lifecycle.data.jsonl import Row
from lifecycle.evaluation.checks import parse_checks, verdicts
from lifecycle.evaluation.grading import grade
from lifecycle.evaluation.matching import Unchecked

EXAMPLES = 5
CORRECT, TERSE = 2.0, 1.0  # a right answer in many words is better than a wrong one in few


def worth(row: Row, answer: str) -> float | None:
    """Higher is better; None where the row says nothing to grade by, or a check cannot be decided.

    A row with field and value is graded as the contract is: right, then nothing beside it. One with checks: how many
    hold.
    """
    if "field" in row and "value" in row:
        graded = grade(answer, str(row["field"]), row["value"])
        return CORRECT * graded.correct + TERSE * graded.exact
    if "checks" in row:
        try:
            return float(sum(verdicts(parse_checks(row["checks"]), answer)))
        except Unchecked:
            return None
    return None


def verified(rows: Sequence[Row]) -> Verified:
    """What a verifier says of the labels it can decide."""
    decided, against = 0, []
    for row in rows:
        chosen, rejected = (worth(row, answer_key(row[side])) for side in ("chosen", "rejected"))
        if chosen is not None and rejected is not None and chosen != rejected:
            decided += 1
            if chosen < rejected:
                against.append(row["id"])
    return Verified(decided=decided, contradicted=len(against), examples=against[:EXAMPLES])
