"""Rows of conversations in the shapes data sets come in, as messages of the OpenAI chat schema.

`messages`  a list of turns with `role` and `content` (field `messages`, `conversations` or `conversation`)
`sharegpt`  a list of turns with `from` and `value`, maybe a `system` text beside it
`alpaca`    `instruction`, `input` and `output`, maybe a `system` text and a `history` of earlier pairs

Beside the turns a row may define `tools`, which then stand in its system turn. A source has one shape. Nothing of a row
that says what the conversation is gets lost on the way: what has no place in the schema is a reason to refuse the row.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import orjson

from lifecycle.data.conversations import without_nulls
from lifecycle.data.jsonl import Row
from lifecycle.data.tool_definitions import read_definitions

Format = Literal["messages", "sharegpt", "alpaca"]
AlpacaPrompt = Literal["turn", "stanford"]

FIELDS = ("messages", "conversations", "conversation")
SHAREGPT_ROLES: Mapping[str, str] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "function_call": "call",
    "function": "tool",
    "tool": "tool",
    "observation": "tool",
}
# The two prompts of Stanford Alpaca (Taori et al. 2023, https://github.com/tatsu-lab/stanford_alpaca, train.py).
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


class Shape(NamedTuple):
    """A shape, and the field that holds the turns, if one does."""

    format: Format
    field: str = ""

    def __str__(self) -> str:
        return f"{self.format} in {self.field!r}" if self.field else self.format


class Unusable(NamedTuple):
    """Why a row is no conversation."""

    fault: str


def shape_of(row: Row) -> Shape | None:
    """The shape of one row, by its keys and those of its first turn."""
    for field in FIELDS:
        turns = row.get(field)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            if "role" in turns[0]:
                return Shape("messages", field)
            if {"from", "value"} <= set(turns[0]):
                return Shape("sharegpt", field)
    return Shape("alpaca") if {"instruction", "output"} <= set(row) else None


def shape_of_source(rows: Iterable[Row], asked: Format | Literal["auto"]) -> Shape | None:
    """What a source is, by the first of these rows that has a shape, or one of the shape asked for."""
    found = (shape for row in rows if (shape := shape_of(row)) is not None)
    return next((shape for shape in found if asked in ("auto", shape.format)), None)


def messages_of(row: Row, shape: Shape, alpaca_prompt: AlpacaPrompt = "turn") -> list[Any] | Unusable:
    """The row's turns in the chat schema; whether they make a conversation is not judged here."""
    match shape.format:
        case "alpaca":
            found = _of_alpaca(row, alpaca_prompt)
        case "sharegpt":
            found = _of_sharegpt(row, shape.field)
        case "messages":
            turns = row.get(shape.field)
            found = without_nulls(turns) if isinstance(turns, list) else Unusable(_another(row, shape))
    return found if isinstance(found, Unusable) or not row.get("tools") else _with_tools(found, row["tools"])


def _with_tools(turns: list[Any], tools: object) -> list[Any] | Unusable:
    """The turns with a row's definitions of tools in the system turn, whose content is None where there was none."""
    if (definitions := read_definitions(tools)) is None:
        return Unusable("row_bad_tools")
    if not definitions:
        return turns
    opens = bool(turns) and isinstance(turns[0], dict) and turns[0].get("role") == "system"
    first = turns[0] if opens else {"role": "system", "content": None}
    return Unusable("row_bad_tools") if "tools" in first else [{**first, "tools": definitions}, *turns[opens:]]


def _of_sharegpt(row: Row, field: str) -> list[Any] | Unusable:
    turns = row.get(field)
    if not isinstance(turns, list):
        return Unusable(_another(row, Shape("sharegpt", field)))
    found: list[Any] = _system(row)
    calls: list[str] = []  # made and not yet answered, by id
    for turn in turns:
        if not isinstance(turn, dict) or not {"from", "value"} <= set(turn):
            return Unusable("row_bad_message")
        role = SHAREGPT_ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
        if role is None:
            return Unusable("row_unknown_role")
        if role == "call":
            made = _calls(turn["value"], first=sum(len(m.get("tool_calls", ())) for m in found))
            if made is None:
                return Unusable("row_bad_tool_call")
            calls += [call["id"] for call in made]
            found.append({"role": "assistant", "content": None, "tool_calls": made})
        elif role == "tool":
            if not calls:  # its call is text in the turn before, in a form of its own
                return Unusable("row_tool_result_without_call")
            found.append({"role": "tool", "content": turn["value"], "tool_call_id": calls.pop(0)})
        else:
            found.append({"role": role, "content": turn["value"]})
    return found


def _of_alpaca(row: Row, prompt: AlpacaPrompt) -> list[Any] | Unusable:
    instruction, given, output = row.get("instruction"), row.get("input"), row.get("output")
    if "instruction" not in row or "output" not in row:
        return Unusable(_another(row, Shape("alpaca")))
    if not isinstance(instruction, str) or not isinstance(given or "", str):
        return Unusable("row_wrong_type")
    given = given or ""
    if prompt == "stanford":
        form = ALPACA_WITH_INPUT if given.strip() else ALPACA_WITHOUT_INPUT
        asked = form.format(instruction=instruction, input=given)
    else:
        asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    earlier = _history(row.get("history"))
    if earlier is None:
        return Unusable("row_bad_message")
    return [*_system(row), *earlier, {"role": "user", "content": asked}, {"role": "assistant", "content": output}]


def _history(pairs: object) -> list[Any] | None:
    """Earlier turns, `[[user, assistant], ...]`; None where it is something else."""
    if not pairs:
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        return None
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def _system(row: Row) -> list[Any]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


def _calls(value: object, first: int) -> list[Any] | None:
    """The calls a ShareGPT turn holds as JSON: one object with a name and arguments, or a list of them."""
    try:
        held = orjson.loads(value) if isinstance(value, str) else None
    except orjson.JSONDecodeError:
        return None
    calls = held if isinstance(held, list) else [held]
    if not calls or not all(isinstance(call, dict) and set(call) == {"name", "arguments"} for call in calls):
        return None
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": call["name"], "arguments": _as_text(call["arguments"])},
        }
        for number, call in enumerate(calls, first + 1)
    ]


def _as_text(arguments: object) -> object:
    return orjson.dumps(arguments).decode() if isinstance(arguments, dict) else arguments


def _another(row: Row, shape: Shape) -> str:
    """A row of another shape than its source, or of none we know."""
    found = shape_of(row)
    return "row_of_unknown_shape" if found is None or found == shape else "row_of_another_shape"
