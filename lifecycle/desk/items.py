"""From answers to what is compared: pairs of different answers to one prompt, each with a name of its own."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.conversations import Message, fault_of_comparison, fault_of_messages, prompt_key
from lifecycle.data.jsonl import Row, fault_of_text, load_rows, read_lines, write_rows
from lifecycle.errors import InputError

CHOSEN, REJECTED = "chosen", "rejected"


class Answer(BaseModel):
    """What was said, by which system, and how it was drawn where that is on record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    content: str
    system: str = Field(description="Whose answer it is: a checkpoint's digest, or a name. Nobody who votes sees it.")
    drawn: dict[str, Any] = Field(default_factory=dict, description="Seed, temperature, tokens, log-probability.")


class Item(BaseModel):
    """Two answers to one prompt. Their order says nothing: it follows from digests, not from who wrote them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(description="SHA-256 of the prompt, the answers and their systems.")
    prompt: list[dict[str, Any]]
    answers: tuple[Answer, Answer]
    better: int | None = Field(None, description="Of a gold item: which answer is known to be the better one.")

    @property
    def prompt_name(self) -> str:
        """Equal for items about the same prompt."""
        return prompt_key(self.prompt)  # type: ignore[arg-type]  # checked when the row was read

    @property
    def lengths(self) -> tuple[int, int]:
        """Of both answers, in characters."""
        return len(self.answers[0].content), len(self.answers[1].content)


class AnswerSet(NamedTuple):
    """A prompt and all answers to it."""

    prompt: list[Message]
    answers: list[Answer]


def read_answers(paths: Sequence[Path]) -> list[AnswerSet]:
    """The answers of these files by prompt, in the order of the first file that asks it.

    Rows are `{"prompt", "answers": [{"content", ...}], "checkpoint"}` as sampling writes them (an answer may name its
    own `system`), or pairs `{"prompt", "chosen", "rejected"}`: those systems are then called so.
    """
    sets: dict[str, AnswerSet] = {}
    for path in paths:
        for row in _rows(path, _fault):
            known = sets.setdefault(prompt_key(row["prompt"]), AnswerSet(row["prompt"], []))
            known.answers.extend(_answers(row))
    return list(sets.values())


def read_gold(path: Path) -> list[Item]:
    """Pairs whose better answer is known: rows of prompt, chosen and rejected."""
    items = []
    for row in _rows(path, fault_of_comparison):
        item = _item(row["prompt"], *_answers(row))
        better = 0 if item.answers[0].system == CHOSEN else 1
        items.append(item.model_copy(update={"better": better, "id": sha256(f"gold {item.id}".encode()).hexdigest()}))
    return items


def read_prompts(path: Path) -> list[Row]:
    """Rows with a prompt to answer; other keys are left alone."""
    return list(_rows(path, lambda row: fault_of_messages(row.get("prompt"), last_role="user", tools=True)))


def pair_up(sets: Iterable[AnswerSet], *, per_prompt: int) -> tuple[list[Item], Counter[str]]:
    """At most so many pairs of each prompt, and why others were left out.

    Where several systems answered, a pair is of two of them. Which pairs are taken, and their order, follow from
    digests: the same answers give the same items.
    """
    items: dict[str, Item] = {}
    left_out: Counter[str] = Counter()
    for prompt, answers in sets:
        several = len({answer.system for answer in answers}) > 1
        pairs = [
            _item(prompt, *pair)
            for pair in itertools.combinations(answers, 2)
            if not several or pair[0].system != pair[1].system
        ]
        different = [pair for pair in pairs if pair.answers[0].content.strip() != pair.answers[1].content.strip()]
        left_out["same answer"] += len(pairs) - len(different)
        taken = sorted(different, key=lambda pair: pair.id)[:per_prompt]
        left_out["enough pairs of the prompt"] += len(different) - len(taken)
        items |= {item.id: item for item in taken}
    return list(items.values()), +left_out


def save_items(path: Path, items: Sequence[Item]) -> None:
    """One item a line."""
    write_rows(path, (item.model_dump(mode="json") for item in items))


def load_items(path: Path) -> dict[str, Item]:
    """What `save_items` wrote, by id."""
    return {row["id"]: Item.model_validate(row) for row in load_rows(path)}


def _rows(path: Path, fault_of: Any) -> Iterator[Row]:
    """Rows without a fault; the first that has one is refused by its line. People's time is not spent on bad rows."""
    found = 0
    for line in read_lines(path):
        if fault := line.fault or fault_of(line.row):
            raise InputError(
                f"{path}:{line.number}: expected a row to compare, found {fault} in {line.excerpt!r}. Repair the file."
            )
        assert line.row is not None
        found += 1
        yield line.row
    if not found:
        raise InputError(f"{path}:1: expected at least one row, found none. Check the file.")


def _fault(row: Row) -> str | None:
    if CHOSEN in row:
        return fault_of_comparison(row)
    if fault := fault_of_messages(row.get("prompt"), last_role="user", tools=True):
        return fault
    answers = row.get("answers")
    if not isinstance(answers, list):  # one may be empty: no answer of a checkpoint stopped
        return "row_no_answers"
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("system", ""), str):
            return "row_bad_answer"
        # An empty answer is one: a model may say nothing, and people may prefer it.
        if answer.get("content") != "" and (fault := fault_of_text(answer.get("content"))):
            return fault
    return None if isinstance(row.get("checkpoint", ""), str) else "row_bad_checkpoint"


def _answers(row: Row) -> list[Answer]:
    if CHOSEN in row:
        return [Answer(content=row[side][0]["content"] or "", system=side) for side in (CHOSEN, REJECTED)]
    return [
        Answer(
            content=answer["content"],
            system=answer.get("system", row.get("checkpoint", "")),
            drawn={name: value for name, value in answer.items() if name not in ("content", "system")},
        )
        for answer in row["answers"]
    ]


def _item(prompt: Sequence[Message], one: Answer, other: Answer) -> Item:
    # The prompt too: many have the same two answers, and one of them would always be the first.
    first, second = sorted((one, other), key=lambda answer: _digest([list(prompt), answer.content, answer.system]))
    said = [list(prompt), [first.content, first.system], [second.content, second.system]]
    return Item(id=_digest(said), prompt=[dict(message) for message in prompt], answers=(first, second))


def _digest(value: Any) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
