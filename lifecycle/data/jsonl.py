"""JSON Lines in and out. A line that cannot be used comes back with a reason; none is repaired or skipped."""

import gzip
import mmap
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


class Line(NamedTuple):
    """One line of a file: its row, or the reason why it is none, with the start of it for a person to look at."""

    number: int
    row: Row | None
    fault: str | None = None
    excerpt: str = ""


def read_lines(path: Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Every line of a `.jsonl` or `.jsonl.gz` file. Memory is bounded by `max_line_bytes`, whatever the file holds."""
    if not path.is_file():
        raise InputError(f"expected a .jsonl or .jsonl.gz file at {path}, found none. Check the path in the recipe.")
    number = 0
    try:
        with _open(path) as file:
            while raw := file.readline(max_line_bytes + 1):
                number += 1
                excerpt = raw[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
                if len(raw) > max_line_bytes:
                    while not raw.endswith(b"\n") and (raw := file.readline(max_line_bytes + 1)):
                        pass  # the rest of this line
                    yield Line(number, None, "row_too_long", excerpt)
                    continue
                row, fault = _parse(raw)
                yield Line(number, row, fault, excerpt)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}:{number + 1}: expected readable lines, found: {error}. Restore the file.") from error


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


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


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
