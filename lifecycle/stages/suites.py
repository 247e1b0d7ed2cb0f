"""Held-out items first: what we will score is sealed before anything is trained, and kept out of all training data."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle import progress
from lifecycle.artifacts import Suites
from lifecycle.data.conversations import answer_key, fault_of_messages
from lifecycle.data.jsonl import Row, read_rows, write_rows
from lifecycle.data.records import fault_of_record
from lifecycle.sealing import StageConfig


class SuiteFile(BaseModel):
    """One contract suite: rows with id, messages (the last one the right answer), field, value, and maybe a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Its name in metrics and reports.")
    path: Path = Field(description="A .jsonl or .jsonl.gz file.")


class SuitesConfig(StageConfig):
    """Which items are held out. One bad row refuses the file: a score over unknown items means nothing."""

    stage: ClassVar[str] = "suites"
    suites: tuple[SuiteFile, ...] = Field(min_length=1, description="The contract suites.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "SuitesConfig":
        names = [suite.name for suite in self.suites]
        if len(set(names)) < len(names):
            raise ValueError(f"expected suites with different names, found {names}. Rename one.")
        return self


def collect_suites(config: SuitesConfig, *, out_dir: Path) -> Suites:
    """Check every item, split the right answer from the prompt, and write one file per suite."""
    items, majority = {}, {}
    for done, suite in enumerate(config.suites):
        progress.report(done, len(config.suites), "suites", suite.name)
        rows, _ = read_rows(suite.path, fault_of_item, max_bad_row_share=0)
        items[suite.name] = write_rows(out_dir / f"{suite.name}.jsonl", map(_stored, rows))
        majority[suite.name] = majority_answer_share(rows)
    return Suites(path=out_dir, items=items, majority_answer_share=majority).seal(config)


def check_rows(config: SuitesConfig) -> None:
    """Raise InputError where a row is no item."""
    for suite in config.suites:
        read_rows(suite.path, fault_of_item, max_bad_row_share=0)


def fault_of_item(row: Row) -> str | None:
    """Why a row cannot be scored, or None. The right answer must hold exactly the object {field: value}."""
    if fault := fault_of_messages(row.get("messages"), last_role="assistant"):
        return fault
    if not isinstance(row.get("field"), str) or not isinstance(row.get("value", ...), str | int | float | None):
        return "row_no_field_or_value"
    if "record" in row and (fault := fault_of_record(row["record"])):
        return fault
    gold = {row["field"]: row["value"]}
    found = any(_same(answer, gold) for answer in json_objects(answer_key(row["messages"])))
    return None if found else "row_answer_is_not_field_and_value"


def majority_answer_share(rows: Sequence[Row]) -> float:
    """What giving the commonest answer to each field, without reading the record, would score.

    The prompt names the field, so this is harder to beat than one answer for all items.
    """
    by_field: dict[str, Counter[str]] = {}
    for row in rows:
        by_field.setdefault(row["field"], Counter())[json.dumps(row["value"])] += 1
    return round(sum(max(answers.values()) for answers in by_field.values()) / len(rows), 6)


def json_objects(text: str) -> Iterator[Any]:
    """Every JSON object in a text, also inside a sentence."""
    start = text.find("{")
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _same(left: object, right: object) -> bool:
    """Equal as JSON: in Python 1 == True."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _stored(row: Row) -> Row:
    """The prompt, without its answer, and what the answer must be."""
    kept = {"id": row["id"], "messages": row["messages"][:-1], "field": row["field"], "value": row["value"]}
    return kept | ({"record": row["record"]} if "record" in row else {})
