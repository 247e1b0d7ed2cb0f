"""One right answer, as JSON: the record's field asked for, exactly, and whether it says anything else beside it."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from lifecycle.data.conversations import answer_key, fault_of_messages
from lifecycle.data.jsonl import Row
from lifecycle.data.records import fault_of_record
from lifecycle.evaluation.grading import Grade, canonical_json, grade
from lifecycle.evaluation.items import Item, Mode
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Measure, Reply, Suite, collected

# Which mode, which grade. DPO shows in sampled answers, deployment is mostly greedy.
METRICS: dict[str, tuple[Mode, str]] = {
    "greedy_correct": ("greedy", "correct"),
    "greedy_stopped": ("greedy", "stopped"),
    "sampled_correct": ("sampled", "correct"),
    "sampled_terse": ("sampled", "terse"),
    "sampled_exact": ("sampled", "exact"),
}
RIGHT = "right_log_probability"


class ContractSuite(Suite):
    """Rows with id, messages (the last one the right answer), field, value, and maybe a record."""

    kind: Literal["contract"] = "contract"
    score_right_answer: bool = Field(
        False, description="Ask for the right answer's probability too: a finer measure than right or wrong."
    )

    def fault_of(self, row: Row) -> str | None:
        """The right answer must hold exactly the object {field: value}."""
        if fault := fault_of_messages(row.get("messages"), last_role="assistant"):
            return fault
        if not isinstance(row.get("field"), str) or not isinstance(row.get("value", ...), str | int | float | None):
            return "row_no_field_or_value"
        if "record" in row and (fault := fault_of_record(row["record"])):
            return fault
        right = grade(answer_key(row["messages"]), row["field"], row["value"]).correct
        return None if right else "row_answer_is_not_field_and_value"

    def stored(self, row: Row) -> Row:
        kept = {"id": row["id"], "messages": row["messages"][:-1], "field": row["field"], "value": row["value"]}
        kept |= {"record": row["record"]} if "record" in row else {}
        kept |= {"answer": row["messages"][-1]["content"]} if self.score_right_answer else {}
        return kept | self.labels(row)

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        return {"majority_answer": majority_answer_share(rows)}

    def asks(self, row: Row) -> list[Ask]:
        right = [Likelihood(row["messages"], row["answer"], ends=True)] if self.score_right_answer else []
        return [Generate(row["messages"]), *right]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        answered = [self._graded(row, reply) for reply in replies[0]]
        scored = [self.item(row, reply, score=RIGHT, grades={RIGHT: reply.log_probability}) for (reply,) in replies[1:]]
        return answered + scored

    def _graded(self, row: Row, reply: Reply) -> Item:
        found: Grade | None = None if reply.unmeasured else grade(reply.text, row["field"], row["value"])
        names = ("correct", "terse", "exact")
        grades = {name: None if found is None else float(getattr(found, name)) for name in names}
        stopped = None if reply.fault else float(reply.stopped)
        return self.item(row, reply, score="correct", grades={**grades, "stopped": stopped})

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        found = {
            name: collected("share", (item for item in items if item.mode == mode), grade)
            for name, (mode, grade) in METRICS.items()
        }
        scored = (item for item in items if item.mode == "likelihood")
        return found | {RIGHT: collected("mean", scored, RIGHT, bounds=None)}


def majority_answer_share(rows: Sequence[Row]) -> float:
    """What giving the commonest answer to each field, without reading the record, would score.

    The prompt names the field, so this is harder to beat than one answer for all items.
    """
    by_field: dict[str, Counter[str]] = {}
    for row in rows:
        by_field.setdefault(row["field"], Counter())[canonical_json(row["value"])] += 1
    return round(sum(max(answers.values()) for answers in by_field.values()) / len(rows), 6)
