"""Patterns and schemas from a file, held against text from a model: under a time limit, and without the network."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import regex
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

MATCH_SECONDS = 1.0  # a pattern can take for ever on a text made for it; a usual one takes microseconds


class Unchecked(Exception):
    """A check that could not be decided; its message is the reason that goes into the record."""


@cache
def compiled(pattern: str) -> "regex.Pattern[str]":
    """The pattern, or ValueError."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"expected a regular expression, found {pattern!r}: {error}. Mend the row.") from error


def matches(pattern: str, text: str, *, whole: bool) -> bool:
    """Whether the pattern is the whole text, or in it. Raises Unchecked when the time runs out."""
    match = compiled(pattern).fullmatch if whole else compiled(pattern).search
    try:
        return match(text, timeout=MATCH_SECONDS) is not None
    except TimeoutError as error:
        raise Unchecked("check_timed_out") from error


def fits(value: object, schema: dict[str, Any]) -> bool:
    """Whether a JSON value fits a schema that `check_schema` has accepted."""
    return bool(_validator(json.dumps(schema)).is_valid(value))


def check_schema(schema: dict[str, Any]) -> None:
    """Raise ValueError where this is no JSON schema (2020-12), or refers to one outside itself."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"expected a JSON schema, found: {error.message}. Mend the row.") from error
    for name, value in _members(schema):
        if name in ("$ref", "$dynamicRef") and not str(value).startswith("#"):
            raise ValueError(f"expected a schema in one piece, found a reference to {value!r}. Write it out.")
        if name == "pattern" and isinstance(value, str):
            compiled(value)
        if name == "patternProperties" and isinstance(value, dict):
            raise ValueError("expected a schema without patternProperties. Use properties or propertyNames.")


def _pattern(
    _validator: Validator, pattern: str, value: object, _schema: object
) -> Iterator[jsonschema.ValidationError]:
    """The keyword `pattern` under our time limit."""
    if isinstance(value, str) and not matches(pattern, value, whole=False):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


@cache
def _validator(schema: str) -> Any:
    return _Validator(json.loads(schema), registry=Registry())  # an empty registry: nothing is fetched


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)
