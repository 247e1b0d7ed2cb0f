"""Conversations with tools, as a foreign template is asked to render them, and what it makes of a call."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lifecycle.chat.structure import ASSISTANT, CALL_FIELDS, TOOL
from lifecycle.chat.symbolic import HOLE


class Order(NamedTuple):
    """In which order a template writes the fields of a call and of a tool's turn."""

    call: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()

    @classmethod
    def of(cls, turns: Sequence[Mapping[str, Any]], holes: Sequence[tuple[int, str]]) -> "Order":
        """The order in a conversation with one call of one tool."""
        speakers = [speaker_of(turns[number]["role"], name) for number, name in holes]
        calls = tuple(speaker for speaker in speakers if speaker in CALL_FIELDS)
        return cls(calls, tuple(speaker for speaker in speakers if speaker.startswith(TOOL)))

    def speakers(self, turn: Mapping[str, Any]) -> list[str]:
        """Who speaks in this turn, field by field."""
        if turn["role"] == TOOL:
            return list(self.tool)
        said = [turn["role"]] if turn["content"] else []
        return [*said, *(field for _ in turn.get("tool_calls", ()) for field in self.call)]


def speaker_of(role: str, name: str) -> str:
    """The name in the table of a message's field."""
    if role == TOOL:
        return TOOL if name == "content" else f"tool.{name}"
    return role if name == "content" else f"call.{name.rpartition('.')[2]}"


def _calls(number: int, content: str | None) -> dict[str, Any]:
    function = {"name": HOLE, "arguments": HOLE}
    return {
        "role": ASSISTANT,
        "content": content,
        "tool_calls": [{"id": HOLE, "type": "function", "function": function}] * number,
    }


_TOOL = {"role": TOOL, "content": HOLE, "tool_call_id": HOLE, "name": HOLE}
_NAMELESS = {"role": TOOL, "content": HOLE, "tool_call_id": HOLE}
_SYSTEM, _USER, _ANSWER = ({"role": role, "content": HOLE} for role in ("system", "user", ASSISTANT))

CONVERSATIONS: list[tuple[list[dict[str, Any]], bool]] = [
    (turns, prompt)
    for content in (None, "")
    for turns, prompt in (
        ([_USER, _calls(1, content), _TOOL, _ANSWER], False),
        ([_USER, _calls(1, content), _TOOL], True),
        ([_USER, _calls(1, content)], False),
        ([_USER, _calls(2, content), _TOOL, _TOOL, _ANSWER, _USER, _ANSWER], False),
        ([_USER, _calls(3, content), _TOOL, _TOOL, _TOOL], True),
        ([_USER, _calls(1, HOLE), _TOOL, _calls(2, HOLE), _TOOL, _TOOL, _ANSWER], False),
        ([_SYSTEM, _USER, _ANSWER, _USER, _calls(1, content), _TOOL, _calls(1, content), _TOOL, _ANSWER], False),
    )
]


def conversations(longest: int) -> list[tuple[list[dict[str, Any]], bool]]:
    """Those, and of every length up to `longest`, with each turn at every place: a template may count."""
    found = list(CONVERSATIONS)
    for content, tool in ((None, _TOOL), ("", _NAMELESS)):
        cycle = [_USER, _calls(1, content), tool, _ANSWER] * (longest // 4 + 1)
        for lead in ([], [_SYSTEM], [_USER, _ANSWER], [_SYSTEM, _USER, _ANSWER]):
            turns = [*lead, *cycle][:longest]
            lengths = range(2, longest + 1) if tool is _TOOL and not lead else range(longest - 3, longest + 1)
            found += [(turns[:length], turns[length - 1]["role"] in ("user", TOOL)) for length in lengths]
    return found


def has_nameless(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool answers here without saying who it is, which only templates that leave names out can render."""
    return any(turn["role"] == TOOL and "name" not in turn for turn in turns)
