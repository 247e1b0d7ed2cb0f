"""Definitions of tools as data sets and requests bring them, held to the OpenAI chat schema.

A definition is `{"type": "function", "function": {"name", "description", "parameters"}}`, parameters a JSON schema of
an object. Known variants are converted: the list as JSON text, and functions without what wraps them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lifecycle.data.jsonl import fault_of_text

WRAPPER = frozenset({"type", "function"})
FUNCTION = frozenset({"name", "description", "parameters", "strict"})
MOST = 128  # as the OpenAI API has it
DEEPEST = 64


def read_definitions(found: object) -> list[dict[str, Any]] | None:
    """The definitions in one form; None where they are something else.

    `strict` is left out: it asks a server to decode in a certain way, and tells a model nothing. Keys that hold nothing
    are left out too, as Arrow adds them to every row; in JSON text a null stays one.
    """
    is_text = isinstance(found, str)
    try:
        plain = _copied(orjson.loads(found) if isinstance(found, str) else found, nulls=is_text, room=DEEPEST)
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return _definitions(plain)


def fault_of_definitions(tools: object) -> str | None:
    """Why these are no definitions in the one form that rows of ours have, or None."""
    try:
        same = bool(tools) and _definitions(_copied(tools, nulls=True, room=DEEPEST)) == tools
    except RecursionError:
        same = False
    return None if same else "row_bad_tools"


def fault_of_calls(tools: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the calls in a conversation are none of the tools it defines, or None."""
    required = {tool["function"]["name"]: _required(tool["function"]) for tool in tools}
    for call in (call for message in messages for call in message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], orjson.loads(call["function"]["arguments"])
        if name not in required:
            return "row_calls_undefined_tool"
        if not required[name] <= set(arguments):
            return "row_call_lacks_argument"
    return None


def fault_of_function(function: Mapping[str, Any]) -> str | None:
    """What is wrong with a function's name, description or parameters, or None."""
    if fault_of_text(function.get("name")):
        return "name"
    if "description" in function and (not isinstance(function["description"], str) or "\0" in function["description"]):
        return "description"
    parameters = function.get("parameters", {})
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        return "parameters"
    properties, required = parameters.get("properties", {}), parameters.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return "parameters"
    return None if all(isinstance(name, str) and name in properties for name in required) else "required"


def _definitions(found: object) -> list[dict[str, Any]] | None:
    if not isinstance(found, list) or len(found) > MOST:
        return None
    functions = [_function(tool) for tool in found]
    names = {function["name"] for function in functions if function and not fault_of_function(function)}
    if len(names) < len(functions):
        return None
    return [{"type": "function", "function": function} for function in functions]


def _function(tool: object) -> dict[str, Any] | None:
    """The function of a definition, its keys in order."""
    if not isinstance(tool, dict):
        return None
    if "function" in tool:
        if not set(tool) <= WRAPPER or tool.get("type", "function") != "function":
            return None
        tool = tool["function"]
    if not isinstance(tool, dict) or not set(tool) <= FUNCTION:
        return None
    return {name: tool[name] for name in ("name", "description", "parameters") if tool.get(name) is not None}


def _required(function: Mapping[str, Any]) -> set[str]:
    return set(function.get("parameters", {}).get("required", ()))


def _copied(value: object, *, nulls: bool, room: int) -> Any:
    """Nested values, with or without keys that hold null; RecursionError where they are nested deeper than `room`."""
    if room < 0:
        raise RecursionError
    if isinstance(value, dict):
        held = value.items()
        return {name: _copied(item, nulls=nulls, room=room - 1) for name, item in held if nulls or item is not None}
    return [_copied(item, nulls=nulls, room=room - 1) for item in value] if isinstance(value, list) else value
