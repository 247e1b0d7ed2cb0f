"""Token rows on disk, and the reader that training uses.

    index.json               what there is, with the digests of the two small files of each shard
    train-00000.bin          rows of `max_seq_len` ids, to be mapped into memory
    train-00000.pieces       which tokens of which document lie where (`layout.PIECE`)
    train-00000.crc32        a checksum of every row, checked whenever the row is read
    validation.bin, ...      the held-out rows

# B rows, T tokens of a row
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.data.layout import PIECE, Packing, Pieces, Rows, Segments
from lifecycle.data.order import shuffled
from lifecycle.errors import DamagedArtifact

INDEX = "index.json"


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


def _write(path: Path, values: NDArray[np.generic]) -> str:
    values.tofile(path)
    return hashlib.sha256(values.tobytes()).hexdigest()


def _joined(held: Sequence[Rows]) -> Rows:
    firsts = np.cumsum([0, *(len(rows.ids) for rows in held[:-1])])
    pieces = np.concatenate([rows.pieces for rows in held])
    pieces["row"] += firsts.astype("<u4").repeat([len(rows.pieces) for rows in held])
    return Rows(np.concatenate([rows.ids for rows in held]), pieces)


class MappedShard:
    """One shard in memory maps, its small files checked against their digests when they are first needed."""

    def __init__(self, folder: Path, shard: Shard, index: Index) -> None:
        self.path, self.shard = folder / shard.file, shard
        dtype = np.dtype(index.dtype).newbyteorder("<")
        expected = shard.rows * index.max_seq_len * dtype.itemsize
        found = self.path.stat().st_size if self.path.is_file() else None
        if found != expected:
            raise DamagedArtifact(
                f"{self.path}: expected {expected} bytes ({shard.rows} rows of {index.max_seq_len} {index.dtype}), "
                f"found {'no file' if found is None else found}. Pack the shards again."
            )
        shape = (shard.rows, index.max_seq_len)
        # An empty file cannot be mapped.
        self._rows_BT = np.memmap(self.path, dtype, "r", shape=shape) if expected else np.empty(shape, dtype)

    def row(self, number: int) -> NDArray[np.unsignedinteger]:
        """One row, if it still is what was packed."""
        row: NDArray[np.unsignedinteger] = self._rows_BT[number]
        if zlib.crc32(row.data) != self._crc32[number]:
            raise DamagedArtifact(
                f"{self.path}: row {number} does not have the checksum it was packed with. The file changed after "
                "packing; rerun the shards stage."
            )
        return row

    def pieces_of(self, number: int) -> Pieces:
        """What one row is made of."""
        begin, end = np.searchsorted(self._pieces["row"], [number, number + 1])
        return self._pieces[begin:end].copy()

    @cached_property
    def _crc32(self) -> NDArray[np.uint32]:
        return np.frombuffer(self._checked(".crc32", self.shard.crc32_sha256, 4 * self.shard.rows), "<u4")

    @cached_property
    def _pieces(self) -> Pieces:
        size = PIECE.itemsize * self.shard.pieces
        return np.frombuffer(self._checked(".pieces", self.shard.pieces_sha256, size), PIECE)

    def _checked(self, suffix: str, sha256: str, size: int) -> bytes:
        path = self.path.with_suffix(suffix)
        content = path.read_bytes() if path.is_file() else b""
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise DamagedArtifact(
                f"{path}: expected {size} bytes with sha256 {sha256[:12]}, found {len(content)} others. The file "
                "changed after packing; rerun the shards stage."
            )
        return content


class ShardReader:
    """The rows of sealed token shards, memory-mapped: opening costs nothing, a row costs its bytes.

    Every row is held against its checksum when it is read, so a shard that changed after packing is never trained on,
    and nothing has to be read through before training starts or goes on.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.index = Index.model_validate_json((folder / INDEX).read_bytes())
        except (OSError, ValidationError) as error:
            raise DamagedArtifact(f"{folder}: no readable {INDEX} ({error}). Pack the shards again.") from error
        self.folder = folder
        self.max_seq_len = self.index.max_seq_len
        if len({shard.file for shard in self.index.shards}) != len(self.index.shards):
            raise DamagedArtifact(f"{folder / INDEX}: a shard is listed twice. Pack the shards again.")
        self._shards = [MappedShard(folder, shard, self.index) for shard in self.index.shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in self.index.shards)])

    def __len__(self) -> int:
        """Training rows."""
        return int(self._starts[-1])

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The training rows at these global indices, shape (B, T), as the int64 that embeddings want."""
        places = self._places(indices)
        rows_BT = np.empty((len(places), self.max_seq_len), np.int64)
        for out, (shard, row) in enumerate(places):
            rows_BT[out] = self._shards[shard].row(row)
        return rows_BT

    def pieces(self, indices: Sequence[int] | NDArray[np.int64]) -> Pieces:
        """What these training rows are made of; `row` is the position in `indices`, `document` a line of the corpus."""
        found = [self._shards[shard].pieces_of(row) for shard, row in self._places(indices)]
        for out, pieces in enumerate(found):
            pieces["row"] = out
        return np.concatenate([*found, np.empty(0, PIECE)])

    def segments(self, indices: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each token of these rows (B, T) the number of its document in the row, -1 for padding, and its position
        in that stretch of the document. Attention blocked across documents is between equal numbers.
        """
        pieces = self.pieces(indices)
        segments_BT = np.full((len(indices), self.max_seq_len), -1, np.int64)
        positions_BT = np.zeros_like(segments_BT)
        number, last = 0, -1
        for row, start, tokens in zip(*(pieces[name].tolist() for name in ("row", "start", "tokens")), strict=True):
            number, last = (number + 1 if row == last else 0), row
            segments_BT[row, start : start + tokens] = number
            positions_BT[row, start : start + tokens] = np.arange(tokens)
        return segments_BT, positions_BT

    def validation(self) -> NDArray[np.int64]:
        """All held-out rows, shape (B, T)."""
        shard = MappedShard(self.folder, self.index.validation, self.index)
        empty = np.empty((0, self.max_seq_len), np.int64)
        return np.concatenate([empty, *(shard.row(row)[None] for row in range(shard.shard.rows))])

    def rows_for(self, step: int, batch_rows: int, seed: int) -> NDArray[np.int64]:
        """Global indices of the rows of one step's batch, shape (B,), the same for any number of ranks.

        Each epoch is its own permutation, named by (seed, epoch); a batch may reach over the end of one. Any step
        can be asked for at once: resuming replays nothing. Rank r of w takes `rows_for(...)[r::w]`.
        """
        positions = np.arange(step * batch_rows, (step + 1) * batch_rows)
        epochs, within = np.divmod(positions, len(self))
        indices = np.empty(batch_rows, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = shuffled(within[here], len(self), "rows", seed, int(epoch))
        return indices

    def _places(self, indices: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, int]]:
        """Shard and row in it."""
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"expected rows 0 to {len(self) - 1}, found {wanted.min()} to {wanted.max()}")
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        return list(zip(shards.tolist(), (wanted - self._starts[shards]).tolist(), strict=True))
