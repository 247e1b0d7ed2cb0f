"""Instructions that a program verifies, as in IFEval; also refusal of what should be refused, and over-refusal.

Zhou et al. 2023, https://arxiv.org/abs/2311.07911: prompt-level and instruction-level accuracy, strict and loose
(section 2.2).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.jsonl import Row
from lifecycle.evaluation.checks import Check, fault_of_checks, parse_checks, verdicts
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Ask, Generate, Measure, Reply, Suite, collected
from lifecycle.evaluation.matching import Unchecked

REFUSAL = "I'm sorry, but I can't help with that."
BY_CHECK = "check_"


class InstructionSuite(Suite):
    """Rows with id, messages (the last one the user's) and checks, all of which the answer must keep."""

    kind: Literal["instructions"] = "instructions"

    def fault_of(self, row: Row) -> str | None:
        return fault_of_messages(row.get("messages"), last_role="user") or fault_of_checks(row.get("checks"))

    def stored(self, row: Row) -> Row:
        return {"id": row["id"], "messages": row["messages"], "checks": row["checks"], **self.labels(row)}

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        """What an empty answer, and one and the same refusal, would score."""
        said = {"empty_answer": "", "refusing_all": REFUSAL}
        return {name: round(share_kept(rows, answer), 6) for name, answer in said.items()}

    def asks(self, row: Row) -> list[Ask]:
        return [Generate(row["messages"])]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        checks = parse_checks(row["checks"])
        return [self._graded(row, checks, reply) for reply in replies[0]]

    def _graded(self, row: Row, checks: tuple[Check, ...], reply: Reply) -> Item:
        grades: dict[str, float | None] = {"stopped": None if reply.fault else float(reply.stopped)}
        names = ["follows", "follows_loose", "followed_share", *(f"{BY_CHECK}{check.check}" for check in checks)]
        if reply.unmeasured:
            return self.item(row, reply, score="follows", grades={**dict.fromkeys(names), **grades})
        try:
            strict = verdicts(checks, reply.text)
            loose = loosely(checks, reply.text)
        except Unchecked as why:
            unknown = {**dict.fromkeys(names), **grades}
            return self.item(row, reply, score="follows", grades=unknown, unmeasured=str(why))
        grades |= {
            "follows": float(all(strict)),
            "follows_loose": float(all(loose)),
            "followed_share": sum(strict) / len(strict),
        }
        for check, holds in zip(checks, strict, strict=True):
            name = f"{BY_CHECK}{check.check}"
            grades[name] = min(grades.get(name, 1.0) or 0.0, float(holds))
        return self.item(row, reply, score="follows", grades=grades)

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        greedy, sampled = ([item for item in items if item.mode == mode] for mode in ("greedy", "sampled"))
        found = {
            "greedy_follows": collected("share", greedy, "follows"),
            "greedy_follows_loose": collected("share", greedy, "follows_loose"),
            "greedy_followed_share": collected("mean", greedy, "followed_share"),
            "greedy_stopped": collected("share", greedy, "stopped"),
            "sampled_follows": collected("share", sampled, "follows"),
        }
        for name in sorted({name for item in greedy for name in item.grades if name.startswith(BY_CHECK)}):
            found[f"greedy_{name}"] = collected("share", (item for item in greedy if name in item.grades), name)
        return found


def loosely(checks: tuple[Check, ...], answer: str) -> list[bool]:
    """Which checks hold for the answer, or without its first or last line, or its asterisks: an introduction, a closing
    remark or Markdown then breaks nothing."""
    tried = [verdicts(checks, variant) for variant in _variants(answer)]
    return [any(column) for column in zip(*tried, strict=True)]


def share_kept(rows: Sequence[Row], answer: str) -> float:
    """The share of rows whose checks one answer to all of them would be known to keep."""

    def kept(row: Row) -> bool:
        try:
            return all(verdicts(parse_checks(row["checks"]), answer))
        except Unchecked:
            return False

    return sum(map(kept, rows)) / len(rows)


def _variants(answer: str) -> Iterator[str]:
    lines = answer.splitlines()
    for text in (answer, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1])):
        if text.strip() or text == answer:
            yield text
            yield text.replace("*", "")
