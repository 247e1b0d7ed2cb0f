"""How good an answer is, decided by a program: it ranks sampled answers, and labels are held against it."""

from lifecycle.data.jsonl import Row
from lifecycle.evaluation.checks import parse_checks, verdicts
from lifecycle.evaluation.grading import grade
from lifecycle.evaluation.matching import Unchecked

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
