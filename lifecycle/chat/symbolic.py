"""Text with holes where contents of messages belong. A template rendered with it shows what it does to any content.

A template that only copies a hole, or strips its ends, treats every content alike: that is no matter of trying many.
What it asks about a hole (is this in it? does it start so?) is answered with no and noted: an assumption, under which
alone the result holds. Whatever else it does to a hole (counts, splits, indexes, loops over it) stops the rendering.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

HOLE = "<hole>"
"""Stands in a request where a hole is meant."""

STRIPS = ("strip", "lstrip", "rstrip")


class Unprovable(Exception):
    """The template does something to a content whose result depends on more than where it stands."""


class OutOfBounds(Unprovable):
    """The template reaches for something that is not in the messages: time, chance, memory, attributes."""


class Hole(NamedTuple):
    """The content of a message, with what is stripped from it."""

    message: int
    field: str
    strips: tuple[tuple[str, str | None], ...] = ()


class Assumption(NamedTuple):
    """What the template asked about a hole and was told: that it is not so."""

    hole: Hole
    question: str  # contains, startswith, endswith, equals, is_empty
    text: str


class Noted(set[Assumption]):
    """What was assumed in one rendering."""


def _refused(name: str) -> Callable[..., Any]:
    def method(self: Any, *_: Any, **__: Any) -> Any:
        raise Unprovable(f"it reads what a message says ({name.strip('_')}), not only where it stands")

    return method


class Text(str):
    """A sequence of literals and holes that a template takes for a string."""

    __slots__ = ("_noted", "_parts")
    _parts: tuple[str | Hole, ...]
    _noted: Noted

    @classmethod
    def of(cls, parts: Iterable[str | Hole], noted: Noted) -> "str":
        """These parts as one text; plain where no hole is among them."""
        merged: list[str | Hole] = []
        for part in parts:
            if isinstance(part, Hole) or not merged or isinstance(merged[-1], Hole):
                merged += [part] if isinstance(part, Hole) or part else []
            else:
                merged[-1] += part
        if not any(isinstance(part, Hole) for part in merged):
            return "".join(part for part in merged if isinstance(part, str))
        # What C code would see if it got hold of the characters: private ones, found again in any output.
        found = super().__new__(cls, "".join(p if isinstance(p, str) else chr(0xF0000 + p.message) for p in merged))
        found._parts, found._noted = tuple(merged), noted
        return found

    def __str__(self) -> Self:
        return self

    def __add__(self, other: Any) -> Any:
        return Text.of((*self._parts, *parts_of(other)), self._noted) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return Text.of((*parts_of(other), *self._parts), self._noted) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        if all(isinstance(part, Hole) for part in self._parts):
            self._noted.add(Assumption(self._only("is empty"), "is_empty", ""))
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._asked("equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise Unprovable("it looks a message's content up in a table")

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._asked("contains", text)

    def startswith(self, prefix: Any, *rest: Any) -> bool:
        _from_its_start(rest)
        texts = prefix if isinstance(prefix, tuple) else (prefix,)
        return sum(self._asked("startswith", text) for text in texts) > 0

    def endswith(self, suffix: Any, *rest: Any) -> bool:
        _from_its_start(rest)
        texts = suffix if isinstance(suffix, tuple) else (suffix,)
        return sum(self._asked("endswith", text) for text in texts) > 0

    def split(self, sep: Any = None, maxsplit: Any = -1) -> list[Any]:
        if not isinstance(sep, str):
            raise Unprovable("it splits a message's content at white space")
        self._asked("contains", sep)
        return [self]

    def replace(self, old: Any, new: Any, count: Any = -1) -> Any:
        self._asked("contains", old)
        return self

    def strip(self, chars: Any = None) -> Any:
        return self.lstrip(chars).rstrip(chars) if len(self._parts) > 1 else self._stripped("strip", chars, 0)

    def lstrip(self, chars: Any = None) -> Any:
        return self._stripped("lstrip", chars, 0)

    def rstrip(self, chars: Any = None) -> Any:
        return self._stripped("rstrip", chars, -1)

    def _stripped(self, how: str, chars: str | None, at: int) -> Any:
        """This text stripped at one end: a literal there now, a hole when its content is known."""
        if isinstance(chars, Text):
            raise Unprovable("it compares the contents of two messages")
        parts = list(self._parts)
        end = parts[at]
        if isinstance(end, str):
            parts[at] = getattr(end, how)(chars)
            if not parts[at]:
                raise Unprovable("it strips white space that it wrote itself next to a message's content")
        else:
            parts[at] = end._replace(
                strips=end.strips if end.strips[-1:] == ((how, chars),) else (*end.strips, (how, chars))
            )
            if len(parts) > 1:  # nothing but white space would let the strip go on behind it
                self._noted.add(Assumption(parts[at], "is_empty", ""))  # type: ignore[arg-type]
        return Text.of(parts, self._noted)

    def _asked(self, question: str, text: Any) -> bool:
        if isinstance(text, Text) or not isinstance(text, str):
            raise Unprovable("it compares the contents of two messages")
        self._noted.add(Assumption(self._only(question), question, text))
        return False

    def _only(self, question: str) -> Hole:
        """The hole this text is; a question about a hole together with text around it has no simple answer."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Hole):
            return self._parts[0]
        raise Unprovable(f"it asks about a message's content together with the text around it ({question})")


def _from_its_start(rest: tuple[Any, ...]) -> None:
    if rest:
        raise Unprovable("it looks into the middle of a message's content")


MODELLED = {"startswith", "endswith", "split", "replace", *STRIPS}
for _name in {name for name in dir(str) if not name.startswith("_")} - MODELLED:
    setattr(Text, _name, _refused(_name))
for _name in (
    "__len__",
    "__iter__",
    "__repr__",  # of a list that holds it: the way to its length
    "__mod__",
    "__rmod__",
    "__mul__",
    "__rmul__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
):
    setattr(Text, _name, _refused(_name))


def _item(self: Text, key: Any) -> Any:
    if isinstance(key, str):
        raise TypeError("string indices must be integers")  # what a string answers: `content['type']` is undefined
    raise Unprovable("it cuts a message's content")


def _format(self: Text, spec: str) -> Any:
    raise Unprovable("it formats a message's content")


Text.__getitem__ = _item  # type: ignore[method-assign,assignment]
Text.__format__ = _format  # type: ignore[method-assign,assignment]


class Arguments(dict[str, Any]):
    """The arguments of a tool call, of which a template may know only that they are an object, and write it as JSON."""

    def __init__(self, message: int, field: str, noted: Noted) -> None:
        super().__init__()
        self._hole, self._noted = Hole(message, field), noted

    def as_json(self) -> str:
        """The text of these arguments."""
        return Text.of([self._hole], self._noted)


for _name in (
    "__bool__",
    "__len__",
    "__iter__",
    "__getitem__",
    "__contains__",
    "__str__",
    "__repr__",
    "__eq__",
    "__ne__",
    "__or__",
    "__ror__",
    "__reversed__",
    "copy",
    "items",
    "keys",
    "values",
    "get",
):
    setattr(Arguments, _name, _refused(f"arguments: {_name}"))


class Tool(Arguments):
    """The definition of a tool, which a template may write as JSON, whole or its function alone."""

    def __getitem__(self, name: str) -> Arguments:
        if name == "function":
            return Arguments(self._hole.message, f"{self._hole.field}.function", self._noted)
        raise Unprovable(f"it reads what the definition of a tool says ({name})")


def parts_of(text: str) -> Sequence[str | Hole]:
    """Literals and holes of a text; markup without what makes it escape its neighbours."""
    return text._parts if isinstance(text, Text) else (str.__str__(text),)


def joined(texts: Iterable[Any], noted: Noted) -> str:
    """What `"".join(map(str, texts))` is, holes kept."""
    return Text.of((part for text in texts for part in parts_of(text if isinstance(text, str) else str(text))), noted)
