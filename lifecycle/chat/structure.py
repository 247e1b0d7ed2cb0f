"""What a chat template writes around the contents of messages, as a table: text before the first message, between two
neighbours, after the last, and where an answer is asked for.

Our own protocol is one such table. A foreign template becomes one when it is proven to be nothing more (`chat.prove`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from lifecycle.chat import definitions
from lifecycle.chat.definitions import DEFINITION, SYSTEM
from lifecycle.errors import ContractError

Messages = Sequence[Mapping[str, Any]]

ASSISTANT, TOOL = "assistant", "tool"
START, ANSWER, FINISH = "<start>", "<answer>", "<finish>"
"""Neighbours that are no message: before the first, where an answer begins, and after the last."""

CALL_FIELDS = ("call.id", "call.name", "call.arguments", "call.function")
"""`call.function` is name and arguments as one JSON object."""
SPOKEN = frozenset({ANSWER, ASSISTANT, *CALL_FIELDS})
"""What the assistant says itself: all text between two of these is learned."""

Definition = Literal["", "tool", "function", "shown"]
"""What of a definition a protocol writes: nothing, all of it as it comes, its function, or what `shown` keeps."""


class Unrenderable(ContractError):
    """A conversation that this protocol cannot render as it would be served; `reason` is what it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Strip(BaseModel):
    """White space, or other characters, that a template takes from the ends of a content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    how: Literal["strip", "lstrip", "rstrip"]
    characters: str | None = None

    def __call__(self, text: str) -> str:
        found: str = getattr(text, self.how)(self.characters)
        return found


class Assumed(BaseModel):
    """What a template asks about a content. The table holds for contents of which it is not so."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question: Literal["contains", "startswith", "endswith", "equals", "is_empty"]
    text: str
    after: tuple[Strip, ...] = ()

    def is_so(self, content: str) -> bool:
        """Whether this content is one that the table does not hold for."""
        for strip in self.after:
            content = strip(content)
        match self.question:
            case "contains":
                return self.text in content
            case "startswith":
                return content.startswith(self.text)
            case "endswith":
                return content.endswith(self.text)
        return content == self.text


class Structure(BaseModel):
    """The text that a protocol puts between neighbours, and the token that ends an assistant's turn."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    joins: dict[str, dict[str, str]] = Field(description="Who speaks -> who speaks next -> the text between them.")
    stop: str = Field(description="The special token that an answer ends with.")
    strips: dict[str, tuple[Strip, ...]] = Field(default_factory=dict, description="What each loses at its ends.")
    assumed: dict[str, tuple[Assumed, ...]] = Field(default_factory=dict)
    call: tuple[str, ...] = Field((), description="The fields of a tool call, in order; empty: no tools.")
    tool: tuple[str, ...] = Field((), description="The fields of a tool's turn, in order.")
    definition: Definition = Field(
        "", description="What of a tool's definition is written, as JSON; empty: no definitions."
    )
    most_messages: int | None = Field(None, description="The longest conversation it was proven for.")

    @model_serializer(mode="wrap")
    def _as_before_definitions(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A protocol without definitions has the bytes, and so the digest, that it had before there were any."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if value or name != "definition"}

    @cached_property
    def roles(self) -> list[str]:
        """Who may speak."""
        fields = (START, ANSWER, DEFINITION, *CALL_FIELDS)
        return [name for name in self.joins if name not in fields and not name.startswith("tool.")]

    @cached_property
    def _verbatim(self) -> frozenset[str]:
        """Roles whose contents are written as they are."""
        return frozenset(self.roles) - {TOOL, *self.strips, *self.assumed}

    def between(self, left: str, right: str) -> str:
        """The text between two neighbours; Unrenderable where the protocol has none."""
        found = self.joins.get(left, {}).get(right)
        if found is None:
            follow = ", ".join(self.joins.get(left, {})) or "nothing"
            raise Unrenderable(
                f"{right.strip('<>')}_after_{left.strip('<>')}",
                f"expected {follow} after {left!r} in this protocol, found {right!r}. Correct the conversation.",
            )
        return found

    def text(self, messages: Messages, *, generation_prompt: bool = False) -> str:
        """The whole conversation as one string, as a server's template would write it."""
        neighbours = self.neighbours(messages, generation_prompt=generation_prompt)
        return "".join(self.between(left, right) + content for left, right, content in neighbours)

    def neighbours(self, messages: Messages, *, generation_prompt: bool = False) -> Iterator[tuple[str, str, str]]:
        """Who spoke before, who speaks, and what; the end comes last and says nothing."""
        if self.most_messages is not None and len(messages) > self.most_messages:
            raise Unrenderable(
                "more_messages_than_proven",
                f"expected at most {self.most_messages} messages, for which this template was proven, found "
                f"{len(messages)}. Leave the conversation out.",
            )
        left, verbatim = START, self._verbatim
        for message in messages:
            role, content = message["role"], message.get("content")
            if role in verbatim and len(message) == 2 and type(content) is str:  # what nearly every message is
                said = [(role, content)]
            else:
                said = self._said(message, is_first=left == START)
            if role == ASSISTANT:
                speaker, content = said[0]
                if self.between(ANSWER, speaker):
                    yield left, ANSWER, ""
                    yield ANSWER, speaker, content
                else:
                    yield left, ANSWER, content
                left, said = speaker, said[1:]
            for speaker, content in said:
                yield left, speaker, content
                left = speaker
        yield left, ANSWER if generation_prompt else FINISH, ""

    def _said(self, message: Mapping[str, Any], *, is_first: bool) -> list[tuple[str, str]]:
        """The parts of a message, each with its text as the template would write it."""
        role = message["role"]
        if role not in self.roles:
            raise Unrenderable(
                "role_not_in_protocol",
                f"expected a role of {', '.join(self.roles)}, found {role!r}. Correct the conversation.",
            )
        if "name" in message and role != TOOL and self.most_messages is not None:
            raise Unrenderable(
                "name_not_in_protocol",
                f"expected messages without names, of which this template was proven, found {message['name']!r}. Leave "
                "the conversation out, or its names.",
            )
        if role == TOOL:
            found = [
                (field, message.get(field.removeprefix("tool.") if field != TOOL else "content")) for field in self.tool
            ]
        elif message.get("tool_calls"):
            found = [(ASSISTANT, message["content"])] if message.get("content") else []
            found += [field for call in message["tool_calls"] for field in self._call(call)]
        elif message.get("tools"):
            if not is_first or role != SYSTEM:
                raise Unrenderable(
                    "tools_not_at_the_start",
                    f"expected tools to be defined in a system turn at the start, found them in one of {role!r}. "
                    "Correct the conversation.",
                )
            found = [] if message["content"] is None else [(role, message["content"])]
            found += [(DEFINITION, self._definition(tool)) for tool in message["tools"]]
        else:
            found = [(role, message["content"])]
        return [(speaker, self._as_written(speaker, content)) for speaker, content in found]

    def _call(self, call: Mapping[str, Any]) -> list[tuple[str, Any]]:
        if not self.call:
            raise Unrenderable(
                "tool_calls_not_in_protocol",
                "expected a conversation without tool calls, which this protocol cannot write, found one with them. "
                "Leave it out, or take a tokenizer whose template writes them.",
            )
        function = call["function"]
        arguments = json_object(function["arguments"])
        fields = {
            "call.id": call.get("id"),
            "call.name": function["name"],
            "call.arguments": json_text(arguments),
            "call.function": json_text({"name": function["name"], "arguments": arguments}),
        }
        return [(field, fields[field]) for field in self.call]

    def _definition(self, tool: Mapping[str, Any]) -> str:
        match self.definition:
            case "shown":
                return json_text(definitions.shown(tool["function"]))
            case "function":
                return json_text(tool["function"])
            case "tool":
                return json_text(tool)
        raise Unrenderable(
            "tools_not_in_protocol",
            "expected a conversation that defines no tools, which this protocol cannot show, found one that does. "
            "Leave it out, or take a tokenizer whose template shows them.",
        )

    def _as_written(self, speaker: str, content: object) -> str:
        """A content without what the template strips; Unrenderable where nothing is proven about it."""
        if not isinstance(content, str):
            raise Unrenderable(
                f"{speaker}_without_text", f"expected text of {speaker!r}, found {content!r}. Correct the conversation."
            )
        for assumed in self.assumed.get(speaker, ()):
            if assumed.is_so(content):
                raise Unrenderable(
                    f"{speaker}_content_{assumed.question}",
                    f"expected a content of {speaker!r} about which {assumed.question} {assumed.text!r} is not so: the "
                    f"chat template treats others in its own way. Found {content[:80]!r}. Leave the conversation out.",
                )
        for strip in self.strips.get(speaker, ()):
            content = strip(content)
        return content


class Given(NamedTuple):
    """What a server hands to a chat template; `tools` is None where none are defined."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None


def for_template(messages: Messages) -> Given:
    """The conversation as servers hand it over: arguments of calls as objects, definitions of tools beside it."""
    turns, tools = definitions.apart(messages)
    given = [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else dict(message)
        for message in turns
    ]
    return Given(given, tools)


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json_object(function["arguments"])}}


def json_object(arguments: str | Mapping[str, Any]) -> Any:
    """The arguments of a call as values; Unrenderable where they are text that is no JSON."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise _no_json(arguments) from error


def json_text(value: object) -> str:
    """A value as templates write it: JSON as `tojson` of transformers gives it, but for numbers that JSON lacks."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()  # half of a surrogate pair is JSON, and no text
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json(value) from error
    return written


def _no_json(found: object) -> Unrenderable:
    return Unrenderable(
        "call_arguments_not_json",
        f"expected JSON as the arguments of a call, found {str(found)[:80]!r}. Correct the row.",
    )
