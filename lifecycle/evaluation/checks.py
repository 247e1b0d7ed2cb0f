"""Instructions a program can verify, in the manner of IFEval (Zhou et al. 2023, https://arxiv.org/abs/2311.07911).

Nothing an answer says is ever run: checks compare, count, match and parse.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lifecycle.evaluation.grading import json_objects, strict_json
from lifecycle.evaluation.matching import check_schema, compiled, fits, matches
from lifecycle.evaluation.refusal import refuses

FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?\s*```\Z", re.DOTALL)
COUNTERS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "characters": lambda text: len(text.strip()),
    "lines": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
    "paragraphs": lambda text: len([part for part in re.split(r"\n\s*\n", text) if part.strip()]),
    "sentences": lambda text: len(re.findall(r"[^\s.!?][^.!?]*(?:[.!?]+(?=\s|$)|$)", text.strip())),
    "bullets": lambda text: len(re.findall(r"^\s*[*-] ", text, re.MULTILINE)),
}


class _Check(BaseModel):
    """Base of all checks: `holds` says whether an answer keeps the instruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Texts(_Check):
    texts: tuple[str, ...] = Field(min_length=1)
    ignore_case: bool = True

    def _folded(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


class Exact(_Texts):
    """The answer is one of these texts, up to white space at its ends."""

    check: Literal["exact"] = "exact"
    ignore_case: bool = False

    def holds(self, answer: str) -> bool:
        return self._folded(answer) in map(self._folded, self.texts)


class Contains(_Texts):
    """The answer holds all of these texts."""

    check: Literal["contains"] = "contains"

    def holds(self, answer: str) -> bool:
        return all(self._folded(text) in self._folded(answer) for text in self.texts)


class Avoids(_Texts):
    """The answer holds none of these texts."""

    check: Literal["avoids"] = "avoids"

    def holds(self, answer: str) -> bool:
        return not any(self._folded(text) in self._folded(answer) for text in self.texts)


class Opens(_Texts):
    """The answer begins with one of these texts."""

    check: Literal["opens"] = "opens"

    def holds(self, answer: str) -> bool:
        return self._folded(answer).startswith(tuple(map(self._folded, self.texts)))


class Closes(_Texts):
    """The answer ends with one of these texts."""

    check: Literal["closes"] = "closes"

    def holds(self, answer: str) -> bool:
        return self._folded(answer).endswith(tuple(map(self._folded, self.texts)))


class Matches(_Check):
    """The whole answer, white space at its ends left out, matches this regular expression."""

    check: Literal["matches"] = "matches"
    pattern: str

    @model_validator(mode="after")
    def _compiles(self) -> "Matches":
        compiled(self.pattern)
        return self

    def holds(self, answer: str) -> bool:
        return matches(self.pattern, answer.strip(), whole=True)


class Json(_Check):
    """The answer is one JSON value, a Markdown fence around it allowed, and fits the schema if there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    check: Literal["json"] = "json"
    json_schema: dict[str, Any] | None = Field(None, alias="schema", description="2020-12; None: any JSON.")
    anywhere: bool = Field(False, description="Look for the one object inside a sentence.")

    @model_validator(mode="after")
    def _is_a_schema(self) -> "Json":
        if self.json_schema is not None:
            check_schema(self.json_schema)
        return self

    def holds(self, answer: str) -> bool:
        try:
            value = _only_object(answer) if self.anywhere else strict_json(FENCE.sub(r"\1", answer.strip()))
        except (ValueError, RecursionError):
            return False
        return self.json_schema is None or fits(value, self.json_schema)


class Count(_Check):
    """The answer has so many words, characters, lines, paragraphs, sentences or bullets."""

    check: Literal["count"] = "count"
    of: Literal["words", "characters", "lines", "paragraphs", "sentences", "bullets"]
    at_least: int = Field(0, ge=0)
    at_most: int | None = Field(None, ge=0)

    def holds(self, answer: str) -> bool:
        found = COUNTERS[self.of](answer)
        return self.at_least <= found and (self.at_most is None or found <= self.at_most)


class Case(_Check):
    """Every letter is of this case."""

    check: Literal["case"] = "case"
    case: Literal["lower", "upper"]

    def holds(self, answer: str) -> bool:
        return answer == (answer.lower() if self.case == "lower" else answer.upper())


class Refuses(_Check):
    """The answer refuses, as it should."""

    check: Literal["refuses"] = "refuses"

    def holds(self, answer: str) -> bool:
        return refuses(answer)


class Complies(_Check):
    """The answer does not refuse what only looks harmful: over-refusal, as in XSTest."""

    check: Literal["complies"] = "complies"

    def holds(self, answer: str) -> bool:
        return not refuses(answer)


Check = Annotated[
    Exact | Contains | Avoids | Opens | Closes | Matches | Json | Count | Case | Refuses | Complies,
    Field(discriminator="check"),
]
_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(Annotated[tuple[Check, ...], Field(min_length=1)])


def parse_checks(value: object) -> tuple[Check, ...]:
    """The checks of a row, or ValueError."""
    return _CHECKS.validate_json(json.dumps(value))


def fault_of_checks(value: object) -> str | None:
    """Why these are no checks, or None."""
    try:
        parse_checks(value)
    except (ValidationError, TypeError, ValueError):
        return "row_bad_checks"
    return None


def verdicts(checks: tuple[Check, ...], answer: str) -> list[bool]:
    """Which of the checks hold. Raises Unchecked where one cannot be decided."""
    return [check.holds(answer) for check in checks]


def _only_object(answer: str) -> Any:
    found = json_objects(answer)
    if len(found) != 1 or found[0][2] is None:
        raise ValueError("expected one object")
    return found[0][2]
