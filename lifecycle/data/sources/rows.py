"""From a row of any format to a document, or to what is wrong with it: the one place where a row is judged."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.filters import Drop
from lifecycle.data.jsonl import Line, Row, fault_of_text
from lifecycle.data.records import fault_of_record, record_text


class Origin(NamedTuple):
    """Which file a row is from: as a person finds it, and as rows without an id are named by it."""

    file: str
    prefix: str  # empty where the source is this one file


class Placed(NamedTuple):
    """A row as it was read, whatever it holds, and the file it is from."""

    origin: Origin
    line: Line

    @property
    def name(self) -> str:
        """What a row without an id is called: its file and its number in it, however it was cut."""
        return f"{self.origin.prefix}{self.line.number}"


class Part(Protocol):
    """What a shard reads: a small value that can be pickled, in a module that knows its format."""

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]: ...

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """Every row as it is; of tables the columns in `fields`, or all where there is none of them."""
        ...


def document_of(line: Line, source: Source, origin: Origin) -> Document | Bad:
    """The row as a document. A row without an id is named by its file and its number in it, however it was cut."""
    named = Placed(origin, line).name
    identifier: object = named
    if line.row is not None and source.id_field is not None:
        identifier = line.row.get(source.id_field, named)
    fault = line.fault or _fault(line.row or {}, identifier, source.text_field)
    if fault is not None:
        return Bad(source.name, named, Drop(fault, f"{origin.file}:{line.number}"), line.excerpt)
    assert line.row is not None
    return Document(source.name, str(identifier), record_text(line.row[source.text_field]))


def _fault(row: Row, identifier: object, text_field: str) -> str | None:
    if not isinstance(identifier, str) or "\0" in identifier:
        return "row_bad_id"
    value = row.get(text_field)
    return fault_of_record(value) if isinstance(value, dict) else fault_of_text(value)
