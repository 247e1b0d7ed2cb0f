"""JSON Lines in and out. A line that cannot be used comes back with a reason; none is repaired or skipped."""

import gzip
import io
import mmap
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import orjson

from lifecycle.errors import InputError

Row = dict[str, Any]

# A whole book is 10 MB; a longer line is a broken writer, and memory is at risk.
MAX_LINE_BYTES = 16 * 2**20
EXCERPT_CHARACTERS = 200
SCAN_BYTES = 16 * 2**20
NEWLINE = 0x0A
ZST_BUFFER_BYTES = 2**18


class Line(NamedTuple):
    """One line of a file: its row, or the reason why it is none, with the start of it for a person to look at."""

    number: int
    row: Row | None
    fault: str | None = None
    excerpt: str = ""


class Span(NamedTuple):
    """Whole lines of an uncompressed file, from byte `begin` to byte `end`; the first is line `first` of the file."""

    begin: int = 0
    end: int = sys.maxsize
    first: int = 1


WHOLE = Span()


def read_lines(path: Path, span: Span = WHOLE, *, max_line_bytes: int | None = None) -> Iterator[Line]:
    """Every line of a `.jsonl` file (plain, .gz or .zst). Memory is bounded by `max_line_bytes`, whatever it holds."""
    if not path.is_file():
        raise InputError(f"expected a .jsonl file (or .gz, .zst) at {path}, found none. Check the path in the recipe.")
    limit = MAX_LINE_BYTES if max_line_bytes is None else max_line_bytes
    number, position = span.first - 1, span.begin
    try:
        with open_bytes(path) as file:
            if position:
                file.seek(position)
            while position < span.end and (raw := file.readline(limit + 1)):
                number += 1
                position += len(raw)
                excerpt = raw[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
                if len(raw) > limit:
                    while not raw.endswith(b"\n") and (raw := file.readline(limit + 1)):
                        position += len(raw)  # the rest of this line
                    yield Line(number, None, "row_too_long", excerpt)
                    continue
                row, fault = _parse(raw)
                yield Line(number, row, fault, excerpt)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}:{number + 1}: expected readable lines, found: {error}. Restore the file.") from error


def line_spans(path: Path, span_bytes: int) -> list[Span]:
    """An uncompressed file in spans of about `span_bytes`, cut at line ends; one span where it is no larger.

    Lines are numbered from the start of the file, so a larger one is read once to count them.
    """
    size = path.stat().st_size
    if size <= span_bytes:
        return [WHOLE]
    cuts, lines, position, target = [(0, 1)], 0, 0, span_bytes - 1
    with path.open("rb") as file:
        while chunk := file.read(SCAN_BYTES):
            counted = 0
            while target < position + len(chunk) and (found := chunk.find(b"\n", max(0, target - position))) >= 0:
                lines += chunk.count(b"\n", counted, found + 1)
                counted = found + 1
                cuts.append((position + counted, lines + 1))
                target = position + counted + span_bytes - 1
            lines += chunk.count(b"\n", counted)
            position += len(chunk)
    begins = [cut for cut in cuts if cut[0] < size]
    ends = [*(begin for begin, _ in begins[1:]), size]
    return [Span(begin, end, first) for (begin, first), end in zip(begins, ends, strict=True)]


def read_rows(
    path: Path, fault_of: Callable[[Row], str | None], *, max_bad_row_share: float
) -> tuple[list[Row], Counter[str]]:
    """The rows of a file in which `fault_of` finds no fault, and the number of bad ones by reason.

    Raises InputError, naming the first bad line, when more than `max_bad_row_share` of the rows are bad, or all.
    A second row with an id already seen is bad too.
    """
    rows: list[Row] = []
    faults: Counter[str] = Counter()
    first_fault = ""
    ids: set[str] = set()
    for line in read_lines(path):
        fault = line.fault or fault_of(line.row or {}) or _fault_of_id(line.row or {}, ids)
        if fault is None:
            assert line.row is not None
            ids.add(line.row["id"])
            rows.append(line.row)
            continue
        faults[fault] += 1
        first_fault = first_fault or f"{path}:{line.number}: {fault} in {line.excerpt!r}"
    bad, total = faults.total(), faults.total() + len(rows)
    if bad > max_bad_row_share * total:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items()))
        raise InputError(
            f"{first_fault}\nexpected at most {max_bad_row_share:.2%} bad rows, found {bad} of {total} ({counts}). "
            "Repair the file, or raise max_bad_row_share."
        )
    if not rows:
        raise InputError(f"{path}:1: expected at least one usable row, found none in {total}. Check the file.")
    return rows, faults


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write one row a line, keys in their given order, and return how many."""
    written = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            written += 1
    return written


def load_rows(path: Path) -> Iterator[Row]:
    """The rows of a file this project wrote and sealed; not for files from outside."""
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


class Lines:
    """The rows of a file this project wrote and sealed, by number: 8 bytes of memory a row, whatever its length."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.stat().st_size
        with path.open("rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.bytes else b""
        ends = [
            begin + 1 + np.flatnonzero(np.frombuffer(self._content[begin : begin + SCAN_BYTES], np.uint8) == NEWLINE)
            for begin in range(0, self.bytes, SCAN_BYTES)
        ]
        self._bounds = np.concatenate([np.zeros(1, np.int64), *ends])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, number: int) -> Row:
        return cast(Row, orjson.loads(self._content[self._bounds[number] : self._bounds[number + 1]]))


def fault_of_text(value: object) -> str | None:
    """Why a value cannot be used as text, or None."""
    if value is None:
        return "row_no_text"
    if not isinstance(value, str):
        return "row_wrong_type"
    if not value.strip():
        return "row_no_text"
    return "row_nul" if "\0" in value else None


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where its name ends in .gz or .zst."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        import pyarrow as pa  # a tenth of a second that other files need not pay

        return cast(IO[bytes], io.BufferedReader(pa.input_stream(path, compression="zstd"), ZST_BUFFER_BYTES))
    return path.open("rb")


def _parse(raw: bytes) -> tuple[Row | None, str | None]:
    if not raw.strip():
        return None, "row_empty_line"
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return None, _fault_of_json(raw, str(error))
    return (value, None) if isinstance(value, dict) else (None, "row_not_an_object")


def _fault_of_json(raw: bytes, message: str) -> str:
    """The reason behind a parser's complaint: each has another cause upstream."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "row_not_utf8"
    if "surrogate" in message:
        return "row_lone_surrogate"
    if "depth" in message:
        return "row_too_deep"
    return "row_nul" if b"\0" in raw else "row_bad_json"


def _fault_of_id(row: Row, seen: set[str]) -> str | None:
    identifier = row.get("id")
    if not isinstance(identifier, str) or not identifier:
        return "row_no_id"
    return "row_repeated_id" if identifier in seen else None
