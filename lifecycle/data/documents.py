"""Where text comes from: a source is a file with a name, a licence and a field that holds the text."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters import Drop
from lifecycle.data.jsonl import Line, fault_of_text, read_lines
from lifecycle.data.records import fault_of_record, record_text


class Source(BaseModel):
    """One body of text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Its name in counts, metrics and reports.")
    path: Path = Field(description="A .jsonl or .jsonl.gz file.")
    licence: str = Field(min_length=1, description="What allows its use, in SPDX terms where there is one.")
    text_field: str = Field("text", description="The field of a row that holds its text; 'record' for contract rows.")
    is_prose: bool = Field(True, description="False exempts it from the quality rules, which are rules for prose.")
    max_bytes: int | None = Field(None, gt=0, description="Keep at most this many bytes of clean text; None: all.")


class Document(NamedTuple):
    """One text and where it is from; (source, id) is unique."""

    source: str
    id: str
    text: str


class Bad(NamedTuple):
    """A row that is no document: where it is, why, and how it starts."""

    source: str
    id: str
    drop: Drop
    excerpt: str


def read_documents(source: Source) -> Iterator[Document | Bad]:
    """Every row of a source, as a document or as what is wrong with it. A row without an id is named by its line."""
    seen: set[str] = set()
    for line in read_lines(source.path):
        identifier = str(line.number) if line.row is None else line.row.get("id", str(line.number))
        fault = line.fault or _fault(line, identifier, source.text_field, seen)
        if fault is not None:
            yield Bad(source.name, str(line.number), Drop(fault, f"{source.path.name}:{line.number}"), line.excerpt)
            continue
        assert line.row is not None
        seen.add(identifier)
        yield Document(source.name, identifier, record_text(line.row[source.text_field]))


def _fault(line: Line, identifier: object, text_field: str, seen: set[str]) -> str | None:
    assert line.row is not None
    if not isinstance(identifier, str) or "\0" in identifier:
        return "row_bad_id"
    if identifier in seen:
        return "row_repeated_id"
    value = line.row.get(text_field)
    return fault_of_record(value) if isinstance(value, dict) else fault_of_text(value)
