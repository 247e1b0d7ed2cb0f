"""Sorted runs on disk: what does not fit in memory is sorted in parts, and looked at one range of keys at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.order import U64

I64 = NDArray[np.int64]


class Run(NamedTuple):
    """A file of (key, value) rows, sorted by key, then by value: all keys, then all values."""

    path: Path
    value_type: type[np.unsignedinteger[Any]]

    @property
    def number(self) -> int:
        """The shard it is from, which is its name."""
        return int(self.path.stem)

    @property
    def rows(self) -> int:
        return self.path.stat().st_size // (8 + np.dtype(self.value_type).itemsize)

    def keys(self) -> U64:
        """The keys, mapped: pages come in when looked at, and go with the array."""
        return self._mapped(np.uint64, 0)

    def values(self) -> NDArray[np.unsignedinteger[Any]]:
        """The values, mapped."""
        return self._mapped(self.value_type, 8 * self.rows)

    def _mapped(self, kind: type[np.unsignedinteger[Any]], offset: int) -> NDArray[Any]:
        rows = self.rows
        return np.memmap(self.path, kind, "r", offset, (rows,)).view(np.ndarray) if rows else np.empty(0, kind)


def write_run(path: Path, keys: NDArray[Any], values: NDArray[Any], value_type: type = np.uint64) -> None:
    """Put a run there whole, by rename: a task that runs again replaces what its dead first try left."""
    path.parent.mkdir(exist_ok=True)  # not its parents: a late worker would put them back into a sealed artifact
    part = path.with_suffix(f".{uuid4().hex}.part")  # process ids repeat on another machine
    with part.open("wb") as file:
        np.ascontiguousarray(keys, np.uint64).tofile(file)
        np.ascontiguousarray(values, value_type).tofile(file)
    part.replace(path)


def find_runs(folder: Path, value_type: type[np.unsignedinteger[Any]] = np.uint64) -> list[Run]:
    """The runs below a folder, by name."""
    return [Run(path, value_type) for path in sorted(folder.rglob("*.run"))]


class Range(NamedTuple):
    """The rows of several runs whose key lies in one range: `slices[i]` of run i."""

    runs: Sequence[Run]
    slices: list[slice]
    is_single_key: bool

    @property
    def rows(self) -> int:
        return sum(rows.stop - rows.start for rows in self.slices)

    def parts(self) -> Iterator[tuple[Run, U64, I64]]:
        """Each run that has such rows, with their keys and values copied out of it."""
        for run, rows in zip(self.runs, self.slices, strict=True):
            if rows.stop > rows.start:
                yield run, np.array(run.keys()[rows]), run.values()[rows].astype(np.int64)


def ranges(runs: Sequence[Run], *, max_rows: int, low: int = 0, high: int = 2**64) -> Iterator[Range]:
    """All rows of the runs, in ranges of keys of at most `max_rows`, rising. Only a single key may hold more."""
    found = Range(runs, [_rows_between(run, low, high) for run in runs], high - low == 1)
    if not found.rows:
        return
    if found.rows <= max_rows or found.is_single_key:
        yield found
        return
    middle = (low + high) // 2
    yield from ranges(runs, max_rows=max_rows, low=low, high=middle)
    yield from ranges(runs, max_rows=max_rows, low=middle, high=high)


def _rows_between(run: Run, low: int, high: int) -> slice:
    keys = run.keys()
    end = len(keys) if high == 2**64 else int(np.searchsorted(keys, np.uint64(high)))
    return slice(int(np.searchsorted(keys, np.uint64(low))), end)
