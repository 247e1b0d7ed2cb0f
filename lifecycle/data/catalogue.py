"""Every clean document as a row of numbers, 36 bytes of memory each; the texts stay in the files of their shards."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.clean_shards import CleanShard, Piece, texts_of
from lifecycle.data.documents import Document

I64 = NDArray[np.int64]


class Reader(NamedTuple):
    """Documents that are in and come one after the other, and what reads their texts; that can be pickled."""

    documents: I64
    texts: Callable[[], Iterator[str]]


class Catalogue:
    """Documents numbered in the order of sources, shards and rows: the same however the sources were cut."""

    def __init__(self, shards: Sequence[CleanShard], scratch: Path) -> None:
        self.shards, self.scratch = shards, scratch
        counts = np.array([shard.documents for shard in shards], np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self.source_of = np.repeat(np.array([shard.source for shard in shards], np.uint16), counts)
        self.texts = self._column("text")
        self.places = self._column("place")
        self.sizes = self._column("bytes")
        self.characters = self._column("characters")
        self.scores = self._column("score")
        self.is_in = np.ones(len(self), bool)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def documents(self) -> I64:
        """The documents that are in."""
        return np.flatnonzero(self.is_in)

    def of_source(self, source: int, *, is_in: bool = True) -> I64:
        """The documents of a source that are in, or those that were dropped since they got here."""
        low, high = np.searchsorted(self.source_of, [source, source + 1])
        return np.flatnonzero(self.is_in[low:high] == is_in) + int(low)

    def ids(self, source: int) -> NDArray[np.uint64]:
        """The digests of the ids of a source's documents, those included that are not in."""
        own = [shard.column("id") for shard in self.shards if shard.source == source]
        return np.concatenate([np.empty((0, 2), np.uint64), *own])

    def characters_in(self) -> int:
        return int(self.characters[self.is_in].sum(dtype=np.int64))

    def readers(self, *, documents: int, size: int) -> list[Reader]:
        """What reads the texts that are in now, in parts of at most so many documents.

        Neighbouring shards that have less than `size` bytes in all are one part: a part costs tasks and files.
        """
        folder = self.scratch / f"in-{int(self.is_in.sum())}-{documents}"  # documents only go: as many are the same
        folder.mkdir(parents=True, exist_ok=True)
        parts: list[list[Piece]] = []
        taken = 0
        for piece in self._pieces(documents):
            more = int(self.sizes[piece.first : piece.last].sum(dtype=np.int64))
            if parts and taken + more <= size and piece.last - parts[-1][0].first <= documents:
                parts[-1].append(piece)
                taken += more
            else:
                parts.append([piece])
                taken = more
        found = []
        for part in parts:
            is_in = self.is_in[part[0].first : part[-1].last]
            mask = folder / f"{part[0].first:012}.npy"
            np.save(mask, is_in)
            found.append(Reader(np.flatnonzero(is_in) + part[0].first, partial(texts_of, part, mask)))
        return found

    def _pieces(self, documents: int) -> Iterator[Piece]:
        for shard in self.shards:
            low, high = self.starts[shard.number : shard.number + 2].tolist()
            for first in range(low, high, documents):
                yield Piece(first, min(high, first + documents), shard.rows, shard.begin(first - low))

    def read(self, document: int) -> Document:
        """One document with its text."""
        shard = int(np.searchsorted(self.starts, document, side="right")) - 1
        return self.shards[shard].read(document - int(self.starts[shard]))

    def write(self, chosen: NDArray[np.bool_], file: IO[bytes]) -> None:
        """Append the rows of the chosen documents, in order."""
        for shard in self.shards:
            mask = chosen[self.starts[shard.number] : self.starts[shard.number + 1]]
            if mask.any():
                shard.copy(mask, file)

    def _column(self, name: str) -> NDArray[Any]:
        return np.concatenate([shard.column(name) for shard in self.shards])
