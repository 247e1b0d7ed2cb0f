"""Parquet files: row groups are what they can be cut into, and a column's type is judged once for the whole file."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lifecycle.data import jsonl
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.jsonl import EXCERPT_CHARACTERS, Line
from lifecycle.data.sources.rows import Origin, Placed, document_of
from lifecycle.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Together they bound the memory of a reader, whatever the size of its row groups.
BUFFER_BYTES = 2**20
BATCH_BYTES = 16 * 2**20
BATCH_ROWS = 1_024


class RowGroups(NamedTuple):
    """Row groups `begin` to `end` of a Parquet file; the first row of them is row `first` of the file."""

    file: Path
    origin: Origin
    begin: int = 0
    end: int = sys.maxsize
    first: int = 1

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every row of these row groups, in memory that does not grow with their size."""
        for first, table in self._tables(lambda schema: columns_of(schema, source, str(self.file))):
            yield from documents_of(table, source, self.origin, first)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """The same, every row as it is."""
        for first, table in self._tables(lambda schema: wanted_of(schema, fields)):
            yield from rows_of(table, self.origin, first)

    def _tables(self, columns_of: "Callable[[pa.Schema], list[str]]") -> "Iterator[tuple[int, pa.RecordBatch]]":
        """The rows in batches, each with the number of its first one."""
        import pyarrow as pa

        number = self.first
        try:
            with _open(self.file) as file:
                columns = columns_of(file.schema_arrow)
                groups = range(self.begin, min(self.end, file.num_row_groups))
                batches = file.iter_batches(
                    _batch_rows(file, groups), row_groups=list(groups), columns=columns, use_threads=False
                )
                for batch in batches:
                    yield number, batch
                    number += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self.file}: expected a readable Parquet file, found from row {number} on: {error}. Restore the file."
            ) from error


def row_group_parts(path: Path, origin: Origin, shard_bytes: int) -> Iterator[RowGroups]:
    """A Parquet file in parts of about `shard_bytes` of stored bytes; a small one is not even opened."""
    if path.stat().st_size <= shard_bytes:
        yield RowGroups(path, origin)
        return
    begin, first, rows, size = 0, 1, 0, 0
    with _open(path) as file:
        count = file.num_row_groups
        for group in range(count):
            stored = _stored_bytes(file, group)
            if group > begin and size + stored > shard_bytes:
                yield RowGroups(path, origin, begin, group, first)
                begin, first, size = group, first + rows, 0
                rows = 0
            size += stored
            rows += file.metadata.row_group(group).num_rows
    yield RowGroups(path, origin, begin, count, first)


def columns_of(schema: "pa.Schema", source: Source, file: str) -> list[str]:
    """The columns to read; InputError where the text or the ids are not there or have no type that fits."""
    import pyarrow as pa

    def kind(name: str) -> Any:
        found = schema.field(name).type
        return found.value_type if pa.types.is_dictionary(found) else found

    if source.text_field not in schema.names:
        raise InputError(
            f"{file}: expected a column {source.text_field!r} with the text, found {schema.names}. Set text_field."
        )
    if not (_is_text(kind(source.text_field)) or pa.types.is_struct(kind(source.text_field))):
        raise InputError(
            f"{file}: expected text in column {source.text_field!r}, found {kind(source.text_field)}. Set text_field."
        )
    if source.id_field is None or source.id_field not in schema.names:
        return [source.text_field]
    if not _is_text(kind(source.id_field)):
        raise InputError(
            f"{file}: expected text in the id column {source.id_field!r}, found {kind(source.id_field)}. "
            "Set id_field to another column, or to None to name rows by their position."
        )
    return [source.text_field, source.id_field]


def documents_of(
    table: "pa.RecordBatch | pa.Table", source: Source, origin: Origin, first: int
) -> Iterator[Document | Bad]:
    """The rows of a table as documents, or as what is wrong with them; the first is number `first`."""
    names = table.schema.names
    for number, row in enumerate(zip(*(_values(table.column(name)) for name in names), strict=True), first):
        yield document_of(_line(number, dict(zip(names, row, strict=True)), source), source, origin)


def rows_of(table: "pa.RecordBatch | pa.Table", origin: Origin, first: int) -> Iterator[Placed]:
    """The rows of a table as they are; the first is number `first`."""
    names = table.schema.names
    for number, values in enumerate(zip(*(_values(table.column(name)) for name in names), strict=True), first):
        row = dict(zip(names, values, strict=True))
        excerpt = str(row)[:EXCERPT_CHARACTERS]
        if any(isinstance(value, UnicodeDecodeError) for value in values):
            yield Placed(origin, Line(number, None, "row_not_utf8", excerpt))
        else:
            yield Placed(origin, Line(number, row, None, excerpt))


def wanted_of(schema: "pa.Schema", fields: frozenset[str]) -> list[str]:
    """The columns in `fields`; all where there is none of them, for a message to name."""
    return [name for name in schema.names if name in fields] or list(schema.names)


def _line(number: int, row: dict[str, Any], source: Source) -> Line:
    value = row[source.text_field]
    excerpt = str(value)[:EXCERPT_CHARACTERS]
    if any(isinstance(cell, UnicodeDecodeError) for cell in row.values()):
        return Line(number, None, "row_not_utf8", excerpt)
    if isinstance(value, str) and _is_longer(value, jsonl.MAX_LINE_BYTES):
        return Line(number, None, "row_too_long", excerpt)
    return Line(number, row, None, excerpt)


def _is_longer(text: str, limit: int) -> bool:
    """Whether it has more bytes than that in UTF-8; encoded only where the number of characters leaves it open."""
    return len(text) > limit or (4 * len(text) > limit and len(text.encode()) > limit)


def _values(column: "pa.Array | pa.ChunkedArray") -> Iterable[Any]:
    """The values as Python objects. Arrow does not check UTF-8: what cannot be decoded comes as its own error."""
    try:
        return cast(list[Any], column.to_pylist())
    except UnicodeDecodeError:
        return map(_value, column)


def _value(scalar: "pa.Scalar") -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(of(kind) for of in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _open(path: Path) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: expected a Parquet file, found: {error}. Restore the file.") from error


def _stored_bytes(file: "pq.ParquetFile", group: int) -> int:
    found = file.metadata.row_group(group)
    return int(sum(found.column(column).total_compressed_size for column in range(found.num_columns)))


def _batch_rows(file: "pq.ParquetFile", groups: range) -> int:
    metadata = [file.metadata.row_group(group) for group in groups]
    rows = sum(group.num_rows for group in metadata)
    mean: int = sum(group.total_byte_size for group in metadata) // max(1, rows)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, mean)))
