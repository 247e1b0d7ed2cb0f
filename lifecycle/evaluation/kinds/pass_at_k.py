"""The chance that one of k sampled answers passes its checks, estimated from n samples.

The checks compare, match and parse; code that a model writes is never run here.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.jsonl import Row
from lifecycle.evaluation.checks import fault_of_checks, parse_checks, verdicts
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.instructions import share_kept
from lifecycle.evaluation.kinds.suite import Ask, Generate, Measure, Reply, Suite, add
from lifecycle.evaluation.matching import Unchecked


class PassAtKSuite(Suite):
    """Rows with id, messages (the last one the user's) and checks, all of which an answer must keep to pass."""

    kind: Literal["pass_at_k"] = "pass_at_k"
    samples: int = Field(8, ge=1, le=1000, description="Answers sampled for each item: n. Gives k = 1, 2, 4, ... n.")

    def fault_of(self, row: Row) -> str | None:
        return fault_of_messages(row.get("messages"), last_role="user") or fault_of_checks(row.get("checks"))

    def stored(self, row: Row) -> Row:
        return {"id": row["id"], "messages": row["messages"], "checks": row["checks"], **self.labels(row)}

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        return {"empty_answer": round(share_kept(rows, ""), 6)}

    def asks(self, row: Row) -> list[Ask]:
        return [Generate(row["messages"], greedy=False, samples=self.samples)]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        return [self._graded(row, reply) for reply in replies[0]]

    def _graded(self, row: Row, reply: Reply) -> Item:
        stopped = None if reply.fault else float(reply.stopped)
        if reply.unmeasured:
            return self.item(row, reply, score="passed", grades={"passed": None, "stopped": stopped})
        try:
            passed = float(all(verdicts(parse_checks(row["checks"]), reply.text)))
        except Unchecked as why:
            grades = {"passed": None, "stopped": stopped}
            return self.item(row, reply, score="passed", grades=grades, unmeasured=str(why))
        return self.item(row, reply, score="passed", grades={"passed": passed, "stopped": stopped})

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        """An item with a sample that could not be measured is unmeasured: its count is not known."""
        by_item: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            by_item.setdefault((item.slice, item.id), []).append(item)
        most = max((len(records) for records in by_item.values()), default=0)
        found = {}
        for k in sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most} - {0}):
            measure = found[f"pass_at_{k}"] = Measure("mean")
            for records in by_item.values():
                passed = [record.grades.get("passed") for record in records]
                known = [value for value in passed if value is not None]
                whole = len(known) == len(passed) == len({record.sample for record in records}) == most
                add(measure, records[0], pass_at_k(len(known), round(sum(known)), k) if whole else None)
        return found


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k samples passes, when c of n did.

    1 - C(n-c, k) / C(n, k), as a product that does not overflow.
    Chen et al. 2021, eq. 1 and figure 3, https://arxiv.org/abs/2107.03374
    """
    if n - c < k:
        return 1.0
    missed = 1.0
    for number in range(n - c + 1, n + 1):
        missed *= 1 - k / number
    return 1 - missed
