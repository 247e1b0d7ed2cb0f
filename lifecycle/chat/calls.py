"""What a model said, read back as a message: calls of tools where our protocol with tools has them, else text."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lifecycle.chat.protocol import CALL
from lifecycle.chat.render import Renderer
from lifecycle.chat.structure import ASSISTANT, Unrenderable, json_text


def as_message(renderer: Renderer, ids: Sequence[int]) -> dict[str, Any]:
    """The assistant's message of these ids, without the stop token.

    A call that is not written as the protocol writes it stays text, and so does all that was said with it: rendered
    again it would have other ids.
    """
    begins = [at for at, token in enumerate(ids) if not renderer.is_foreign and token == renderer.special_ids.get(CALL)]
    parts = [_text(renderer, ids[begin + 1 : end]) for begin, end in pairwise([*begins, len(ids)])]
    calls = [call for number, part in enumerate(parts) if (call := _call(part, number)) is not None]
    if not calls or len(calls) < len(parts):
        return {"role": ASSISTANT, "content": _text(renderer, ids)}
    return {"role": ASSISTANT, "content": _text(renderer, ids[: begins[0]]) or None, "tool_calls": calls}


def _text(renderer: Renderer, ids: Sequence[int]) -> str:
    return renderer.tokenizer.decode(list(ids), skip_special_tokens=False)


def _call(text: str, number: int) -> dict[str, Any] | None:
    """The call that this text is; None where it is none."""
    try:
        found = json.loads(text)
        name, arguments = found["name"], found["arguments"]
        if json_text({"name": name, "arguments": arguments}) != text or not isinstance(arguments, dict):
            return None
    except (ValueError, KeyError, TypeError, RecursionError, Unrenderable):
        return None
    function = {"name": name, "arguments": json_text(arguments)}
    return {"id": f"call{number:05}", "type": "function", "function": function} if isinstance(name, str) else None
