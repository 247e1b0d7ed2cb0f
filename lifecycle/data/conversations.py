"""What a conversation must be before anything trains or is scored on it."""

from collections.abc import Sequence
from typing import TypedDict

from lifecycle.data.jsonl import Row, fault_of_text

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn."""

    role: str
    content: str


def fault_of_messages(messages: object, *, last_role: str) -> str | None:
    """Why these are not the turns of a conversation that ends with `last_role`, or None.

    A system turn may come first; then user and assistant alternate, starting with the user.
    """
    if not isinstance(messages, list) or not messages:
        return "row_no_messages"
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return "row_bad_message"
        if message["role"] not in ROLES:
            return "row_unknown_role"
        if fault := fault_of_text(message["content"]):
            return fault
    turns = [message["role"] for message in messages]
    turns = turns[1:] if turns[0] == "system" else turns
    if turns != [("user", "assistant")[i % 2] for i in range(len(turns))]:
        return "row_roles_do_not_alternate"
    return None if turns and turns[-1] == last_role else f"row_does_not_end_with_{last_role}"


def fault_of_demonstration(row: Row) -> str | None:
    """Why a row is no demonstration, or None."""
    return fault_of_messages(row.get("messages"), last_role="assistant")


def fault_of_comparison(row: Row) -> str | None:
    """Why a row is no comparison, or None. The answers are one assistant turn each, and differ."""
    if fault := fault_of_messages(row.get("prompt"), last_role="user"):
        return fault
    for side in ("chosen", "rejected"):
        answer = row.get(side)
        if not isinstance(answer, list) or len(answer) != 1:
            return f"row_{side}_is_not_one_turn"
        if fault := fault_of_messages([*row["prompt"], *answer], last_role="assistant"):
            return fault
    return "row_same_answer" if answer_key(row["chosen"]) == answer_key(row["rejected"]) else None


def prompt_key(messages: Sequence[Message]) -> str:
    """The prompt as it is compared: turns up to the last user turn, without regard to case and white space."""
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return "\x1e".join(f"{m['role']}\x1f{_folded(m['content'])}" for m in messages[: last_user + 1])


def answer_key(messages: Sequence[Message]) -> str:
    """The turns after the last user turn as they are compared: every character counts but white space at the ends."""
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return "\x1e".join(message["content"].strip() for message in messages[last_user + 1 :])


def user_text(messages: Sequence[Message]) -> str:
    """All that the user says, a turn a line."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
