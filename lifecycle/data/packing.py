"""Token rows on disk. `shard_reader` reads them.

    index.json               what there is, with the digests of the two small files of each shard
    train-00000.bin          rows of `max_seq_len` ids, to be mapped into memory
    train-00000.pieces       which tokens of which document lie where (`layout.PIECE`)
    train-00000.crc32        a checksum of every row, checked whenever the row is read
    validation.bin, ...      the held-out rows
    validation.sources       which source each held-out document is of

# B rows, T tokens of a row
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.layout import PIECE, Packing, Pieces, Rows, Segments

INDEX = "index.json"
SOURCES = "validation.sources"
"""The number of the source of each line of the held-out documents, as uint16."""


class Shard(BaseModel):
    """One file of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    rows: int
    pieces: int
    pieces_sha256: str
    crc32_sha256: str


class Cuts(BaseModel):
    """Documents cut between rows, for a model to continue without what came before, as packed and by the other way."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    documents: int
    longer_than_a_row: int
    cut_documents: int
    cut_documents_by_concatenation: int
    cut_documents_by_best_fit: int
    cuts: int
    cuts_by_concatenation: int
    cuts_by_best_fit: int


class Index(BaseModel):
    """What `index.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_seq_len: int
    dtype: Literal["uint16", "uint32"]
    packing: Literal["concatenate", "best_fit"]
    pad_id: int
    shards: list[Shard]
    validation: Shard
    tokens_by_source: dict[str, int]
    padding_tokens: int
    tail_tokens: int
    """Tokens of the last documents that did not fill a row, and are lost."""
    validation_tail_tokens: int
    validation_sources: dict[str, float] = Field(default_factory=dict)
    """Bytes of text a token of each held-out source, in the order of the numbers in `validation.sources`."""
    validation_sources_sha256: str = ""
    cuts: Cuts


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


class RowWriter:
    """Writes the rows a packing makes of documents, `rows_per_shard` to a file."""

    def __init__(self, folder: Path, names: Iterable[str], packing: Packing, *, rows_per_shard: int) -> None:
        self.folder, self.names, self.packing, self.rows_per_shard = folder, iter(names), packing, rows_per_shard
        self.shards: list[Shard] = []
        self._held: list[Rows] = []
        self._rows = 0

    def write(self, segments: Segments) -> None:
        """Append documents. A full shard is written as soon as it is full."""
        self._take(self.packing.add(segments))

    def close(self) -> list[Shard]:
        """Write the rows that are left."""
        self._take(self.packing.finish())
        if self._rows:
            self._write_shard(self._rows)
        return self.shards

    def _take(self, made: Iterator[Rows]) -> None:
        for rows in made:
            self._held.append(rows)
            self._rows += len(rows.ids)
            while self._rows >= self.rows_per_shard:
                self._write_shard(self.rows_per_shard)

    def _write_shard(self, count: int) -> None:
        rows_BT, pieces = _joined(self._held)
        cut = int(np.searchsorted(pieces["row"], count))
        rest = pieces[cut:].copy()
        rest["row"] -= count
        self._held, self._rows = [Rows(rows_BT[count:], rest)], len(rows_BT) - count
        self.shards.append(write_shard(self.folder / next(self.names), rows_BT[:count], pieces[:cut]))


def write_shard(path: Path, rows_BT: NDArray[np.unsignedinteger], pieces: Pieces) -> Shard:
    """Write rows and what they are made of, little-endian, and return the shard."""
    rows_BT = np.ascontiguousarray(rows_BT, rows_BT.dtype.newbyteorder("<"))
    rows_BT.tofile(path)
    digests = [
        _write(path.with_suffix(".pieces"), np.ascontiguousarray(pieces, PIECE)),
        _write(path.with_suffix(".crc32"), np.array([zlib.crc32(row.data) for row in rows_BT], "<u4")),
    ]
    return Shard(
        file=path.name, rows=len(rows_BT), pieces=len(pieces), pieces_sha256=digests[0], crc32_sha256=digests[1]
    )


def write_sources(folder: Path, source_of_line: NDArray[np.int64]) -> str:
    """Write the number of the source of each held-out document, and return the digest of the file."""
    return _write(folder / SOURCES, source_of_line.astype("<u2"))


def _write(path: Path, values: NDArray[np.generic]) -> str:
    values.tofile(path)
    return hashlib.sha256(values.tobytes()).hexdigest()


def _joined(held: Sequence[Rows]) -> Rows:
    firsts = np.cumsum([0, *(len(rows.ids) for rows in held[:-1])])
    pieces = np.concatenate([rows.pieces for rows in held])
    pieces["row"] += firsts.astype("<u4").repeat([len(rows.pieces) for rows in held])
    return Rows(np.concatenate([rows.ids for rows in held]), pieces)
