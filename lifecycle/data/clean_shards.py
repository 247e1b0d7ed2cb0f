"""The files of a clean shard: its rows as they will stand in the corpus, and what is known of each in numbers."""

from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from lifecycle.data.documents import Document
from lifecycle.errors import DamagedArtifact

I64 = NDArray[np.int64]
COPY_BYTES = 8 * 2**20

NUMBERS = np.dtype(
    [
        ("id", "<u8", 2),  # digest
        ("text", "<u8", 2),  # digest
        ("place", "<u8"),  # in the hashed order of its source
        ("end", "<u8"),  # of its row in the file
        ("bytes", "<u4"),
        ("characters", "<u4"),
        ("score", "u1"),  # bin of its language's probability
    ]
)


class CleanShard(NamedTuple):
    """A shard that went through all steps on single documents."""

    number: int
    source: int
    documents: int
    rows: Path
    numbers: Path

    def column(self, name: str) -> NDArray[Any]:
        return np.array(np.load(self.numbers, mmap_mode="r")[name])

    def begin(self, row: int) -> int:
        """Where a row begins in the file, or where the last one ends."""
        return int(np.load(self.numbers, mmap_mode="r")["end"][row - 1]) if row else 0

    def read(self, row: int) -> Document:
        """One document with its text."""
        begin, end = self.begin(row), self.begin(row + 1)
        with self.rows.open("rb") as file:
            file.seek(begin)
            return Document(**orjson.loads(file.read(end - begin)))

    def copy(self, chosen: NDArray[np.bool_], out: IO[bytes]) -> None:
        """Write the chosen rows, as they stand, after what is in `out`; neighbours are copied together."""
        bounds = np.concatenate([np.zeros(1, np.int64), self.column("end").astype(np.int64)])
        turns = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
        with self.rows.open("rb") as rows:
            for first, last in turns.reshape(-1, 2).tolist():
                rows.seek(bounds[first])
                left = int(bounds[last] - bounds[first])
                while left:
                    if not (block := rows.read(min(left, COPY_BYTES))):
                        raise DamagedArtifact(
                            f"{self.rows}: expected {bounds[-1]} bytes, found fewer. It was changed while the stage "
                            "ran; remove its folder and give the same command again."
                        )
                    left -= out.write(block)


class Piece(NamedTuple):
    """The documents from `first` up to, without, `last`, whose rows stand in a file from `begin` on."""

    first: int
    last: int
    rows: Path
    begin: int


def texts_of(pieces: Sequence[Piece], kept: Path) -> Iterator[str]:
    """The texts of the pieces, one after the other, that are still in, by the mask in `kept`."""
    is_in = np.load(kept)
    for piece in pieces:
        start = piece.first - pieces[0].first
        with piece.rows.open("rb") as file:
            file.seek(piece.begin)
            for line in compress(file, is_in[start : start + piece.last - piece.first].tolist()):
                yield orjson.loads(line)["text"]
