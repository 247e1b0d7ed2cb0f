"""Does the model keep the chat protocol: its template renders alike everywhere, and it ends its answers."""

from collections.abc import Sequence
from typing import Literal

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.jsonl import Row
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Measure, Parity, Reply, Suite, collected


class ProtocolSuite(Suite):
    """Rows with id and messages, the last one an assistant's. Odd characters and typed role tokens belong in here."""

    kind: Literal["protocol"] = "protocol"

    def fault_of(self, row: Row) -> str | None:
        return fault_of_messages(row.get("messages"), last_role="assistant")

    def stored(self, row: Row) -> Row:
        answer = row["messages"][-1]["content"]
        return {"id": row["id"], "messages": row["messages"][:-1], "answer": answer, **self.labels(row)}

    def asks(self, row: Row) -> list[Ask]:
        whole = [*row["messages"], {"role": "assistant", "content": row["answer"]}]
        return [
            Parity(whole),
            Likelihood(row["messages"], row["answer"], ends=True),
            Generate(row["messages"], samples=0),
        ]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        (parity,), (given,), (own,) = replies
        grades = {
            "template_parity": None if parity.fault else float(parity.most_likely),
            "stops_after_answer": None if given.fault else float(given.stopped),
        }
        stopped = {"stopped": None if own.fault else float(own.stopped)}
        return [
            self.item(row, given, score="stops_after_answer", grades=grades),
            self.item(row, own, score="stopped", grades=stopped),
        ]

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        given, own = ([item for item in items if item.mode == mode] for mode in ("likelihood", "greedy"))
        return {
            "template_parity": collected("share", given, "template_parity"),
            "stops_after_answer": collected("share", given, "stops_after_answer"),
            "greedy_stopped": collected("share", own, "stopped"),
        }
