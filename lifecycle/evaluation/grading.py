"""Right or wrong, decided by a program: what a contract answer must be."""

import json
from typing import Any, NamedTuple


class Grade(NamedTuple):
    """`correct`: the answer holds one JSON object, exactly the right one. `terse`: it holds nothing else."""

    correct: bool
    terse: bool

    @property
    def exact(self) -> bool:
        return self.correct and self.terse


class Refused(ValueError):
    """JSON that two readers could understand differently."""


def grade(answer: str, field: str, value: object) -> Grade:
    """Grade an answer that should hold {field: value}. Two objects, a repeated key or another type are wrong."""
    found = list(json_objects(answer))
    if len(found) != 1:
        return Grade(correct=False, terse=False)
    (start, end, holds), gold = found[0], {field: value}
    outside = answer[:start] + answer[end:]
    return Grade(correct=holds is not None and canonical_json(holds) == canonical_json(gold), terse=not outside.strip())


def json_objects(text: str) -> list[tuple[int, int, dict[str, Any] | None]]:
    """Where each outermost JSON object of a text starts and ends, and what it holds; None when it is ambiguous."""
    found: list[tuple[int, int, dict[str, Any] | None]] = []
    start = text.find("{")
    while start >= 0:
        try:
            _, end = PERMISSIVE.raw_decode(text, start)
            found.append((start, end, _strictly(text, start)))
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return found


def _strictly(text: str, start: int) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = STRICT.raw_decode(text, start)[0]
    except Refused:
        return None
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Refused("a key occurs twice: readers differ on which value counts")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise Refused(f"{name} is not JSON")


PERMISSIVE = json.JSONDecoder()
STRICT = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)


def strict_json(text: str) -> Any:
    """The value a text is as JSON, or ValueError; a repeated key and NaN are no JSON here."""
    value, end = STRICT.raw_decode(text.strip())
    if text.strip()[end:]:
        raise ValueError("expected nothing after the value")
    return value


def canonical_json(value: object) -> str:
    """One spelling of a value, to compare by: in Python 1 == True == 1.0."""
    return json.dumps(value, sort_keys=True)
