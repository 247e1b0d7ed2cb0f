"""The rows of sealed token shards, as training and validation read them.

# B rows, T tokens of a row
"""

import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lifecycle.data.layout import PIECE, Pieces
from lifecycle.data.order import shuffled
from lifecycle.data.packing import INDEX, SOURCES, Index, Shard
from lifecycle.errors import DamagedArtifact


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
        return self._pieces[self._firsts[number] : self._firsts[number + 1]].copy()

    @cached_property
    def _crc32(self) -> NDArray[np.uint32]:
        return np.frombuffer(self._checked(".crc32", self.shard.crc32_sha256, 4 * self.shard.rows), "<u4")

    @cached_property
    def _firsts(self) -> NDArray[np.int64]:
        """Where the pieces of each row begin, and the last ones end."""
        return np.searchsorted(self._pieces["row"], np.arange(self.shard.rows + 1))

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
        return self._segments(self.pieces(indices), len(indices))

    def positions(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The second half of `segments`: where it does not go up by one, another document begins, or padding."""
        return self.segments(indices)[1]

    def validation_positions(self) -> NDArray[np.int64]:
        """The same of all held-out rows."""
        shard = MappedShard(self.folder, self.index.validation, self.index)
        every = [shard.pieces_of(row) for row in range(shard.shard.rows)]
        return self._segments(np.concatenate([*every, np.empty(0, PIECE)]), len(every))[1]

    def _segments(self, pieces: Pieces, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        segments_BT = np.full((rows, self.max_seq_len), -1, np.int64)
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

    @property
    def validation_sources(self) -> list[str]:
        """The sources of held-out text, in the order of their numbers."""
        return list(self.index.validation_sources)

    def sources_of_validation(self) -> NDArray[np.int64]:
        """The number of the source of each token of the held-out rows, shape (B, T)."""
        shard = MappedShard(self.folder, self.index.validation, self.index)
        sources_BT = np.full((shard.shard.rows, self.max_seq_len), len(self.index.validation_sources), np.int64)
        if not self.index.validation_sources:
            return sources_BT
        path, sha256 = self.folder / SOURCES, self.index.validation_sources_sha256
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DamagedArtifact(
                f"{path}: expected sha256 {sha256[:12]}, found {len(content)} bytes of others. The file changed after "
                "packing; rerun the shards stage."
            )
        of_document = np.frombuffer(content, "<u2")
        for row in range(len(sources_BT)):
            for piece in shard.pieces_of(row):
                start = int(piece["start"])
                sources_BT[row, start : start + int(piece["tokens"])] = of_document[int(piece["document"])]
        return sources_BT

    def bits_per_byte(self, nats_by_source: Mapping[str, float]) -> dict[str, float]:
        """Held-out nats a token as bits a byte of text, which vocabularies can be compared by."""
        bytes_per_token = self.index.validation_sources
        return {name: nats / math.log(2) / bytes_per_token[name] for name, nats in nats_by_source.items()}

    def unigram_nats(self, most_rows: int = 4096) -> float:
        """Entropy of the frequencies of tokens in evenly spaced training rows: the loss of a model without context."""
        rows = self.rows(np.linspace(0, len(self) - 1, min(most_rows, len(self))).astype(np.int64))
        counts = np.bincount(rows[rows != self.index.pad_id] if self.index.padding_tokens else rows.reshape(-1))
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

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
