"""What a conversation must be before anything trains or is scored on it: the turns of the OpenAI chat schema, strictly.

An assistant may call tools (`tool_calls`); each call is answered by one tool turn before the assistant goes on. What
renders a conversation decides whether it can show tools; here is only said what a whole conversation is.

The system turn may define the tools there are (`tools`); calls are then of these. Its content is None where it says
nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import orjson

from lifecycle.data.jsonl import Row, fault_of_text
from lifecycle.data.tool_definitions import fault_of_calls, fault_of_definitions

ROLES = ("system", "user", "assistant")
KEYS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "name", "tools"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "tool_calls"}),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
}
OPTIONAL = ("name", "tools", "tool_calls", "tool_call_id")


class Function(TypedDict):
    """What a call calls."""

    name: str
    arguments: str  # JSON text, as a model writes it


class ToolCall(TypedDict):
    """One call of a tool."""

    id: str
    type: str
    function: Function


class Message(TypedDict):
    """One turn. One that calls or defines tools may say nothing beside: its content is then None."""

    role: str
    content: str | None
    name: NotRequired[str]
    tools: NotRequired[list[dict[str, Any]]]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]


def fault_of_messages(messages: object, *, last_role: str, tools: bool = False) -> str | None:
    """Why these are not the turns of a conversation that ends with `last_role`, or None.

    A system turn may come first; then user and assistant alternate, starting with the user. With `tools` an assistant
    may call some, and a conversation of tools may also end in a call.
    """
    if not isinstance(messages, list) or not messages:
        return "row_no_messages"
    for message in messages:
        if fault := _fault_of_message(message, tools):
            return fault
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    if fault := _fault_of_turns(turns):
        return fault
    if (defined := messages[0].get("tools")) and (fault := fault_of_calls(defined, turns)):
        return fault
    return None if turns and turns[-1]["role"] == last_role else f"row_does_not_end_with_{last_role}"


def without_nulls(messages: list[Any]) -> list[Any]:
    """The turns without optional keys that hold nothing: Arrow gives every turn every key that one of them has."""
    if not any(isinstance(m, dict) and any(not m[key] for key in OPTIONAL if key in m) for m in messages):
        return messages
    return [
        {key: value for key, value in message.items() if value or key not in OPTIONAL}
        if isinstance(message, dict)
        else message
        for message in messages
    ]


def fault_of_demonstration(row: Row) -> str | None:
    """Why a row is no demonstration, or None."""
    return fault_of_messages(row.get("messages"), last_role="assistant", tools=True)


def fault_of_comparison(row: Row) -> str | None:
    """Why a row is no comparison, or None. The answers are one assistant turn each, and differ."""
    if fault := fault_of_messages(row.get("prompt"), last_role="user", tools=True):
        return fault
    for side in ("chosen", "rejected"):
        answer = row.get(side)
        if not isinstance(answer, list) or len(answer) != 1:
            return f"row_{side}_is_not_one_turn"
        if fault := fault_of_messages([*row["prompt"], *answer], last_role="assistant", tools=True):
            return fault
    return "row_same_answer" if answer_key(row["chosen"]) == answer_key(row["rejected"]) else None


def prompt_key(messages: Sequence[Message]) -> str:
    """The prompt as it is compared: turns up to the last user turn, without regard to case and white space."""
    last_user = last_user_turn(messages)
    return "\x1e".join(f"{m['role']}\x1f{_folded(said(m))}" for m in messages[: last_user + 1])


def answer_key(messages: Sequence[Message]) -> str:
    """The turns after the last user turn as they are compared: every character counts but white space at the ends."""
    return "\x1e".join(said(message).strip() for message in messages[last_user_turn(messages) + 1 :])


def last_user_turn(messages: Sequence[Message]) -> int:
    """Where the user speaks last; -1 where never."""
    return max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)


def user_text(messages: Sequence[Message]) -> str:
    """All that the user says, a turn a line."""
    return "\n".join(message["content"] or "" for message in messages if message["role"] == "user")


def said(message: Message) -> str:
    """All that a turn says: its text, and as JSON its calls or the tools it defines."""
    held = message.get("tool_calls") or message.get("tools")
    if not held:
        return message["content"] or ""
    return (message["content"] or "") + "".join(orjson.dumps(one["function"]).decode() for one in held)


def _fault_of_message(message: object, tools: bool) -> str | None:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        return "row_bad_message"
    role = message["role"]
    if role not in ROLES and not (tools and role == "tool"):
        return "row_unknown_role"
    if not set(message) <= (KEYS[role] if tools else {"role", "content"}):
        return "row_bad_message"
    if "name" in message and fault_of_text(message["name"]):
        return "row_bad_message"
    if role == "tool":  # a tool may have nothing to say
        return "row_no_tool_call_id" if not _is_name(message.get("tool_call_id")) else _fault_of_result(message)
    if message.get("tool_calls"):
        return _fault_of_calls(message)
    if "tools" in message and (fault := fault_of_definitions(message["tools"])):
        return fault
    if "tools" in message and message["content"] is None:
        return None
    return fault_of_text(message["content"])


def _fault_of_result(message: Mapping[str, Any]) -> str | None:
    if not isinstance(message["content"], str):
        return "row_wrong_type"
    return "row_nul" if "\0" in message["content"] else None


def _fault_of_calls(message: Mapping[str, Any]) -> str | None:
    """Why an assistant's calls cannot be used; its text may then be None."""
    if message["content"] not in (None, "") and (fault := fault_of_text(message["content"])):
        return fault
    calls = message["tool_calls"]
    if not isinstance(calls, list):
        return "row_bad_tool_call"
    for call in calls:
        if not isinstance(call, dict) or set(call) != {"id", "type", "function"} or call["type"] != "function":
            return "row_bad_tool_call"
        function = call["function"]
        if not isinstance(function, dict) or set(function) != {"name", "arguments"}:
            return "row_bad_tool_call"
        if not (_is_name(call["id"]) and _is_name(function["name"])):
            return "row_bad_tool_call"
        if not _is_json_object(function["arguments"]):
            return "row_tool_arguments_are_no_json"
    return "row_repeated_tool_call_id" if len({call["id"] for call in calls}) < len(calls) else None


def _fault_of_turns(turns: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these turns do not follow each other: user, assistant, and after its calls a result for each of them."""
    before, unanswered = "assistant", set[str]()
    for message in turns:
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in unanswered:
                return "row_tool_result_without_call"
            unanswered.remove(message["tool_call_id"])
        elif unanswered:
            return "row_tool_call_without_result"
        elif (before, role) not in (("assistant", "user"), ("user", "assistant"), ("tool", "assistant")):
            return "row_roles_do_not_alternate"
        unanswered |= {call["id"] for call in message.get("tool_calls") or ()}
        before = role
    return None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and fault_of_text(value) is None


def _is_json_object(value: object) -> bool:
    """Whether it is text that holds a JSON object. Arguments as an object are refused: models are taught to write."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return isinstance(orjson.loads(value), dict)
    except orjson.JSONDecodeError:
        return False


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
