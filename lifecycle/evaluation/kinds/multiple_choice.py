"""Multiple choice by log-probability: the choice the model finds most probable, as it is and per byte.

Brown et al. 2020, section 2.4, normalise by length; bytes, unlike tokens, are the same for every tokenizer.
"""

import math
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from pydantic import Field

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.jsonl import Row, fault_of_text
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Ask, Likelihood, Measure, Reply, Suite, collected


class MultipleChoiceSuite(Suite):
    """Rows with id, messages (the last one the user's), choices, and answer: the number of the right one, from 0."""

    kind: Literal["multiple_choice"] = "multiple_choice"
    ask_as: Literal["chat", "text"] = Field(
        "chat", description="chat: choices as assistant turns; text: the user's words behind BOS, for base models."
    )
    separator: str = Field(" ", description="Between prompt and choice where they are asked as text.")

    def fault_of(self, row: Row) -> str | None:
        if fault := fault_of_messages(row.get("messages"), last_role="user"):
            return fault
        choices, answer = row.get("choices"), row.get("answer")
        if not isinstance(choices, list) or len(choices) < 2 or any(fault_of_text(choice) for choice in choices):
            return "row_choices_are_not_two_texts_or_more"
        if len(set(choices)) < len(choices):
            return "row_same_choice_twice"
        if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
            return "row_answer_is_no_choice"
        return None

    def stored(self, row: Row) -> Row:
        return {name: row[name] for name in ("id", "messages", "choices", "answer")} | self.labels(row)

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        """Guessing, and always taking the place where the right answer is most often."""
        places = Counter(row["answer"] for row in rows)
        return {
            "random_accuracy": round(math.fsum(1 / len(row["choices"]) for row in rows) / len(rows), 6),
            "commonest_place": round(max(places.values()) / len(rows), 6),
        }

    def asks(self, row: Row) -> list[Ask]:
        if self.ask_as == "chat":
            return [Likelihood(row["messages"], choice) for choice in row["choices"]]
        prompt = "\n\n".join(message["content"] for message in row["messages"])
        return [Likelihood(prompt, self.separator + choice) for choice in row["choices"]]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        said = [reply for (reply,) in replies]
        faults = [reply.fault for reply in said if reply.fault]
        question = sha256("".join(reply.prompt_digest for reply in said).encode()).hexdigest()[:16]
        if faults:
            reply = Reply("likelihood", question, fault=faults[0])
            return [self.item(row, reply, score="correct_per_byte", grades=dict.fromkeys(GRADES), answer=None)]
        whole = [reply.log_probability or 0.0 for reply in said]
        per_byte = [value / len(choice.encode()) for value, choice in zip(whole, row["choices"], strict=True)]
        right = row["answer"]
        grades = {
            "correct": float(is_only_best(whole, right)),
            "correct_per_byte": float(is_only_best(per_byte, right)),
            "right_probability": round(softmax(whole)[right], 6),
        }
        chosen = max(range(len(per_byte)), key=per_byte.__getitem__)
        reply = Reply(
            "likelihood",
            question,
            text=row["choices"][chosen],
            log_probability=whole[right],
            tokens=sum(reply.tokens for reply in said),
        )
        return [self.item(row, reply, score="correct_per_byte", grades=grades)]

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        return {
            "accuracy": collected("share", items, "correct"),
            "accuracy_per_byte": collected("share", items, "correct_per_byte"),
            "right_probability": collected("mean", items, "right_probability"),
        }


GRADES = ("correct", "correct_per_byte", "right_probability")


def is_only_best(values: Sequence[float], place: int) -> bool:
    """Whether this value is above all others. A tie is not knowledge: with the first of equals taken, a model that
    finds all choices equally probable would score by where the right one happens to stand."""
    return all(value < values[place] for other, value in enumerate(values) if other != place)


def softmax(values: Sequence[float]) -> list[float]:
    """The probability of each choice, given that it is one of them."""
    highest = max(values)
    parts = [math.exp(value - highest) for value in values]
    return [part / math.fsum(parts) for part in parts]
