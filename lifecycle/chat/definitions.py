"""Definitions of tools, as a conversation carries them and as protocols write them.

They belong to the system turn: its key `tools` holds them in the OpenAI chat schema, and its content is None where
nothing else is said to the model. Servers and chat templates take them beside the messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SYSTEM, DEFINITION = "system", "system.tool"
SHOWN = ("name", "description", "parameters")
"""What a definition says of its function, in the order it is written in."""


def apart(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Any] | None]:
    """The messages without definitions, and the definitions, as a server hands both to a chat template."""
    if not messages or not messages[0].get("tools"):
        return list(messages), None
    first, *others = messages
    said = {name: value for name, value in first.items() if name != "tools"}
    return (others if said["content"] is None else [said, *others]), list(first["tools"])


def together(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The messages with definitions in their system turn, which is made where there is none."""
    if not tools:
        return [dict(message) for message in messages]
    opens = bool(messages) and messages[0]["role"] == SYSTEM
    first = messages[0] if opens else {"role": SYSTEM, "content": None}
    return [{**first, "tools": list(tools)}, *(dict(message) for message in messages[opens:])]


def shown(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function as our protocol writes it, whatever order its keys come in."""
    return {name: function[name] for name in SHOWN if function.get(name) is not None}
