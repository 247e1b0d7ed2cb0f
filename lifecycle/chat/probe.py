"""The program that a foreign template runs in: `-m lifecycle.chat.probe`, started by `chat.sandbox` with limits.

Reads a request (JSON) from stdin and answers on stdout. Nothing here trusts the template: Jinja's sandbox keeps it from
attributes, and this process has no files to open, little memory, and seconds to live.
"""

import json
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from lifecycle.chat.definitions import apart
from lifecycle.chat.dialect import GenerationTag, TemplateNamespace
from lifecycle.chat.symbolic import HOLE, Arguments, Hole, Noted, OutOfBounds, Text, Tool, Unprovable, joined, parts_of

OUTPUT_CHARACTERS = 2_000_000


class Refused(jinja2.TemplateError):
    """What `raise_exception` raises: the template does not render this conversation."""


class Environment(ImmutableSandboxedEnvironment):
    """Jinja as `transformers` sets it up for chat templates, without clock and chance."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"])
        self.filters["tojson"] = to_json
        self.filters["random"] = _never("it draws at random")
        self.globals = {
            "raise_exception": raise_exception,
            "strftime_now": _never("it reads the clock, and no two days are prompted alike"),
            "namespace": TemplateNamespace,
            "dict": dict,
            "range": self.globals["range"],
        }


class SymbolicEnvironment(Environment):
    """The same, for messages whose contents are holes."""

    intercepted_binops = frozenset({"+", "%", "*"})

    def __init__(self) -> None:
        super().__init__()
        self.noted = Noted()
        self.concat = self._concat  # type: ignore[method-assign]
        for name, found in list(self.filters.items()):
            if name not in ("default", "d", "trim", "string", "join", "tojson"):
                self.filters[name] = _on_plain(name, found)
        self.filters["join"] = self._join
        self.concat_of_holes = lambda *parts: joined(parts, self.noted)
        self.tests["in"], self.tests["sameas"] = _is_in, _on_plain("sameas", self.tests["sameas"])
        self.tests["iterable"] = lambda value: isinstance(value, Text) or jinja2.tests.test_iterable(value)
        self.tests["sequence"] = lambda value: isinstance(value, Text) or jinja2.tests.test_sequence(value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """The template's tree, in which `~` and `in` are functions of ours: C code would not see the holes."""
        tree = super()._parse(source, name, filename)
        rewritten: nodes.Template = _rewritten(tree)
        return rewritten

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, Text) or isinstance(right, Text) or (operator == "%" and _holds_text(right)):
            texts = isinstance(left, str) and isinstance(right, str)
            if operator != "+" or not texts or isinstance(left, Markup) or isinstance(right, Markup):
                raise Unprovable(f"it computes with a message's content ({operator})")
            return joined((left, right), self.noted)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """A hole has what a string has, and arguments what a mapping has: nothing to know us by."""
        kind = str if isinstance(obj, Text) else dict if isinstance(obj, Arguments) else None
        return (kind is None or hasattr(kind, attr)) and super().is_safe_attribute(obj, attr, value)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, Text):
            raise Unprovable("it looks a message's content up in a table")
        return super().getitem(obj, argument)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  (as jinja2 has it)
        """A call; a method of a plain string would see private characters where there are holes."""
        if isinstance(getattr(__obj, "__self__", None), str) and not isinstance(__obj.__self__, Text):
            args = tuple(list(item) if isinstance(item, Iterator | ValuesView) else item for item in args)
            own = ("_loop_vars", "_block_vars")  # jinja2 passes these with every call
            named = [value for name, value in kwargs.items() if name not in own]
            if _holds_text([args, named]):
                if __obj.__name__ == "join":
                    return __self._join(args[0], __obj.__self__)
                raise Unprovable(f"it looks for a message's content in a text ({__obj.__name__})")
        return super().call(__context, __obj, *args, **kwargs)

    def _concat(self, parts: Any) -> str:
        return joined(parts, self.noted)

    def _join(self, values: Any, d: str = "", attribute: Any = None) -> Any:
        found = [value[attribute] if attribute is not None else value for value in values]
        parts = [part for value in found for part in (d, value)][1:]
        return joined(parts, self.noted)


def _rewritten(node: Any) -> Any:
    if isinstance(node, nodes.EvalContextModifier):
        raise Unprovable("it escapes what a message says (autoescape)")
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _rewritten(value))
        elif isinstance(value, list):
            setattr(node, name, [_rewritten(item) if isinstance(item, nodes.Node) else item for item in value])
    if isinstance(node, nodes.Concat):
        ours = nodes.EnvironmentAttribute("concat_of_holes")
        return nodes.Call(ours, node.nodes, [], None, None, lineno=node.lineno)
    if isinstance(node, nodes.Compare) and any(operand.op in ("in", "notin") for operand in node.ops):
        if len(node.ops) > 1:
            raise Unprovable("it chains comparisons with `in`")
        test = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None, lineno=node.lineno)
        return nodes.Not(test, lineno=node.lineno) if node.ops[0].op == "notin" else test
    return node


def _is_in(value: Any, container: Any) -> bool:
    if isinstance(value, Text) and isinstance(container, str):
        raise Unprovable("it looks for a message's content in a text")
    return value in container


def _on_plain(name: str, found: Any) -> Any:
    """A filter or test that refuses holes; on lists of messages and plain values it does what it does."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        if any(isinstance(value, Text) for value in values) or (name == "xmlattr" and _holds_text(values)):
            raise Unprovable(f"it changes what a message says, or asks what it is, with {name!r}")
        return found(*args, **kwargs)

    for mark in ("jinja_pass_arg",):
        if hasattr(found, mark):
            setattr(filtered, mark, getattr(found, mark))
    return filtered


def _never(why: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OutOfBounds(why)

    return refuse


def _holds_text(value: Any) -> bool:
    if isinstance(value, Arguments):
        return True
    if isinstance(value, Mapping):
        return any(map(_holds_text, value.values()))
    return isinstance(value, Text) or (isinstance(value, list | tuple) and any(map(_holds_text, value)))


def raise_exception(message: object) -> Any:
    raise Refused(str(message)[:300])


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """The filter as transformers has it, which does not escape HTML."""
    if isinstance(value, Arguments) and (ensure_ascii, indent, separators, sort_keys) == (False, None, None, False):
        return value.as_json()
    if _holds_text(value):
        raise Unprovable("it writes a message as JSON")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Template:
    """A template, parsed once, with the names of special tokens it may use."""

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        self.variables = {**variables, "documents": None}
        self.symbolic, self.environment = None, SymbolicEnvironment()
        self.plain = Environment().from_string(source)
        try:
            self.symbolic = self.environment.from_string(source)
        except Unprovable as error:
            self.unprovable = error

    def text(self, messages: Sequence[Mapping[str, Any]], prompt: bool) -> str:
        """What it makes of a conversation."""
        turns, tools = apart(messages)
        pieces = self.plain.generate(messages=turns, tools=tools, add_generation_prompt=prompt, **self.variables)
        return "".join(_limited(pieces))

    def parts(self, messages: Sequence[Mapping[str, Any]], prompt: bool) -> Any:
        """What it makes of messages whose contents are holes: parts, and what was assumed about them."""
        if self.symbolic is None:
            raise self.unprovable
        noted = self.environment.noted
        noted.clear()
        turns, tools = apart([_filled(message, number, noted) for number, message in enumerate(messages)])
        pieces = self.symbolic.generate(messages=turns, tools=tools, add_generation_prompt=prompt, **self.variables)
        text = joined(_limited(pieces), noted)
        parts = parts_of(text)
        if any(0xF0000 <= ord(letter) < 0x100000 for part in parts if isinstance(part, str) for letter in part):
            raise Unprovable("it handles a message's content in a way that cannot be followed")
        return {"parts": parts, "assumed": sorted(noted, key=repr)}


def _filled(message: Mapping[str, Any], number: int, noted: Noted) -> dict[str, Any]:
    """A message with holes in place of the strings that say so."""

    def fill(value: Any, field: str) -> Any:
        if isinstance(value, Mapping):
            return {name: fill(item, f"{field}.{name}".lstrip(".")) for name, item in value.items()}
        if isinstance(value, list):
            return [fill(item, f"{field}.{place}") for place, item in enumerate(value)]
        if value != HOLE:
            return value
        if field.startswith("tools."):
            return Tool(number, field, noted)
        return Arguments(number, field, noted) if field.endswith("arguments") else Text.of([Hole(number, field)], noted)

    filled: dict[str, Any] = fill(message, "")
    return filled


def _limited(pieces: Any) -> Any:
    written = 0
    for piece in pieces:
        written += str.__len__(piece)
        if written > OUTPUT_CHARACTERS:
            raise OutOfBounds(f"it writes more than {OUTPUT_CHARACTERS:,} characters for a few messages")
        yield piece


def answer(template: Template, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The result for one conversation, or why there is none: `refused` by the template, or `unprovable` by us."""
    render = template.parts if asked["symbolic"] else template.text
    try:
        return {"found": render(asked["messages"], asked["prompt"])}
    except Refused as error:
        return {"refused": str(error)}
    except OutOfBounds as error:
        return _out_of_bounds(str(error))
    except Unprovable as error:
        return {"unprovable": str(error)}
    except MemoryError:
        return _out_of_bounds("it asks for more memory than a template may have")
    except jinja2.exceptions.SecurityError as error:
        return _out_of_bounds(f"it reaches for what a template may not touch: {str(error)[:200]}")
    except (RecursionError, OverflowError) as error:
        return _out_of_bounds(f"it does not end: {str(error)[:200]}")
    except Exception as error:  # a template's own mistake: a missing field, an undefined name, a syntax error
        return {"refused": f"{type(error).__name__}: {str(error)[:300]}"}


def _out_of_bounds(why: str) -> dict[str, Any]:
    return {"unprovable": why, "predicate": "contained"}


def answers(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of a request, in its order."""
    try:
        template = Template(request["template"], request["variables"])
    except Exception as error:
        return [_out_of_bounds(f"it cannot be read: {type(error).__name__}: {str(error)[:300]}")]
    return [answer(template, asked) for asked in request["conversations"]]


def main() -> None:
    request = json.load(sys.stdin)
    rehearsal = [{"messages": [{"role": "user", "content": HOLE}], "prompt": False, "symbolic": True}]
    for template in ("{% for m in messages %}{{ m.content | trim ~ 'x' }}{% endfor %}", "{{ raise_exception('x') }}"):
        answers({"template": template, "variables": {}, "conversations": rehearsal})  # imports what a template needs
    resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"], request["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_seconds"], request["cpu_seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    json.dump(answers(request), sys.stdout)


if __name__ == "__main__":
    main()
