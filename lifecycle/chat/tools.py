"""Conversations with tools, as a foreign template is asked to render them, and what it makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lifecycle.chat.definitions import DEFINITION, SYSTEM, together
from lifecycle.chat.structure import ASSISTANT, CALL_FIELDS, TOOL, Definition
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
        if turn.get("tools"):
            return [SYSTEM] * bool(turn["content"]) + [DEFINITION] * len(turn["tools"])
        said = [turn["role"]] if turn["content"] else []
        return [*said, *(field for _ in turn.get("tool_calls", ()) for field in self.call)]


def speaker_of(role: str, name: str) -> str:
    """The name in the table of a message's field."""
    if role == TOOL:
        return TOOL if name == "content" else f"tool.{name}"
    if name.startswith("tools."):
        return DEFINITION
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


def definitions(longest: int) -> list[tuple[list[dict[str, Any]], bool]]:
    """Conversations behind one to three definitions of tools, with a system text and without, of every length."""
    short = [([_USER], True), ([_USER, _ANSWER], False), *(shape for shape in CONVERSATIONS if shape[0][0] is _USER)]
    found = [
        (together([*lead, *turns], [HOLE] * number), prompt)
        for number in (1, 2, 3)
        for lead in ([], [_SYSTEM])
        for turns, prompt in short
    ]
    cycle = [_USER, _calls(1, None), _TOOL, _ANSWER] * (longest // 4 + 1)
    for lead in ([], [_SYSTEM]):
        turns = together([*lead, *cycle], [HOLE, HOLE])
        found += [(turns[:n], turns[n - 1]["role"] in ("user", TOOL)) for n in range(2, longest + 1)]
    return found


def written(holes: Sequence[tuple[int, str]]) -> Definition:
    """What of definitions a template writes in a conversation: the whole `tool`, or its `function`; '': both."""
    names = [name for _, name in holes if name.startswith("tools.")]
    functions = sum(name.endswith(".function") for name in names)
    if functions in (0, len(names)):
        return "function" if functions else "tool"
    return ""


def has_nameless(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool answers here without saying who it is, which only templates that leave names out can render."""
    return any(turn["role"] == TOOL and "name" not in turn for turn in turns)
