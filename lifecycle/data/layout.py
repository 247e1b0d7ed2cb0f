"""Where each document's tokens go: rows of equal length, by concatenate-and-cut or by best fit.

# B rows, T tokens of a row
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.unsignedinteger]
I64 = NDArray[np.int64]

PIECE = np.dtype([("row", "<u4"), ("start", "<u4"), ("tokens", "<u4"), ("offset", "<u4"), ("document", "<u8")])
"""A stretch of one document in one row: `tokens` ids at `start`, which are those of the document from `offset` on."""
Pieces = NDArray[np.void]


class Segments(NamedTuple):
    """Parts of documents, one after another: their ids, and for each its document, where in it, and its length."""

    ids: Ids
    documents: I64
    offsets: I64
    tokens: I64

    @classmethod
    def whole(cls, ids: Ids, lengths: I64, documents: I64) -> Self:
        """Documents as they are."""
        return cls(ids, documents, np.zeros(len(lengths), np.int64), lengths)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One behind the other."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Rows(NamedTuple):
    """The ids of rows (B, T) and the pieces they are made of, in order of row and start."""

    ids: Ids
    pieces: Pieces


class Packing(Protocol):
    """Takes documents as they come and gives rows."""

    tail: Segments

    def add(self, segments: Segments) -> Iterator[Rows]: ...
    def finish(self) -> Iterator[Rows]: ...


class Concatenated:
    """Documents end to end, cut every `max_seq_len` tokens. What fills no row at the end is left in `tail`."""

    def __init__(self, max_seq_len: int, dtype: str) -> None:
        self.max_seq_len, self.tail = max_seq_len, _nothing(dtype)

    def add(self, segments: Segments) -> Iterator[Rows]:
        """The rows that are full now."""
        held = Segments.joined([self.tail, segments])
        total = len(held.ids)
        whole = total // self.max_seq_len * self.max_seq_len
        held, at = _cut(held, np.arange(0, total, self.max_seq_len))
        full = int(np.searchsorted(at, whole))
        self.tail = Segments(held.ids[whole:], held.documents[full:], held.offsets[full:], held.tokens[full:])
        if whole:
            first = Segments(held.ids[:whole], held.documents[:full], held.offsets[:full], held.tokens[:full])
            rows, starts = np.divmod(at[:full], self.max_seq_len)
            yield Rows(first.ids.reshape(-1, self.max_seq_len), _pieces(first, rows, starts))

    def finish(self) -> Iterator[Rows]:
        """Nothing more: no row is padded."""
        return iter(())


class BestFit:
    """Documents whole where a row holds them, the rest of a row padded; longer ones are cut every `max_seq_len` tokens.

    Laid out in windows of about `window_rows` rows, so that memory is bounded.
    """

    def __init__(self, max_seq_len: int, dtype: str, *, pad_id: int, window_rows: int) -> None:
        self.max_seq_len, self.pad_id, self.window_rows = max_seq_len, pad_id, window_rows
        self.tail = _nothing(dtype)  # and stays so: a row is padded instead
        self._held: list[Segments] = []
        self._tokens = 0

    def add(self, segments: Segments) -> Iterator[Rows]:
        """The rows of a window, when there is enough for one."""
        self._held.append(segments)
        self._tokens += len(segments.ids)
        if self._tokens >= self.window_rows * self.max_seq_len:
            yield from self.finish()

    def finish(self) -> Iterator[Rows]:
        """Rows of all that is held."""
        if not self._tokens:
            return
        held = Segments.joined(self._held)
        self._held, self._tokens = [], 0
        parts = -(-held.tokens // self.max_seq_len)
        cuts = (np.cumsum(held.tokens) - held.tokens).repeat(parts) + _steps(parts) * self.max_seq_len
        held, _ = _cut(held, cuts)
        rows, starts = best_fit(held.tokens, self.max_seq_len)
        rows_BT = np.full((int(rows.max()) + 1, self.max_seq_len), self.pad_id, held.ids.dtype)
        rows_BT.reshape(-1)[(rows * self.max_seq_len + starts).repeat(held.tokens) + _steps(held.tokens)] = held.ids
        pieces = _pieces(held, rows, starts)
        yield Rows(rows_BT, pieces[np.lexsort((pieces["start"], pieces["row"]))])


def best_fit(tokens: I64, max_seq_len: int) -> tuple[I64, I64]:
    """The row and the start in it of each piece, longest first, each where it leaves the least room.

    Ding et al. 2024, "Fewer truncations improve language modeling", section 3.2, https://arxiv.org/abs/2404.10830.
    A row is found in the bits of one number, bit r set while a row with room for r tokens is open.
    """
    rows, starts = np.empty(len(tokens), np.int64), np.empty(len(tokens), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(max_seq_len + 1)]
    rooms, made = 0, 0
    lengths = tokens.tolist()
    for piece in np.argsort(-tokens, kind="stable").tolist():
        length = lengths[piece]
        if fitting := rooms >> length:
            room = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            room, row, made = max_seq_len, made, made + 1
        rows[piece], starts[piece] = row, max_seq_len - room
        if room > length:
            open_rows[room - length].append(row)
            rooms |= 1 << (room - length)
    return rows, starts


def cuts_by_concatenation(lengths: I64, max_seq_len: int) -> I64:
    """How often concatenate-and-cut would cut each of these documents, laid end to end in this order."""
    ends = np.cumsum(lengths)
    return (ends - 1) // max_seq_len - (ends - lengths) // max_seq_len


def cuts_by_best_fit(lengths: I64, max_seq_len: int) -> I64:
    """How often best-fit packing cuts each of these documents: only where one is longer than a row."""
    return -(-lengths // max_seq_len) - 1


def _cut(held: Segments, cuts: I64) -> tuple[Segments, I64]:
    """The same ids in segments that end at these places too, and where each starts."""
    starts = np.cumsum(held.tokens) - held.tokens
    at = np.union1d(starts, cuts)
    of = np.searchsorted(starts, at, side="right") - 1
    tokens = np.diff(at, append=len(held.ids))
    return Segments(held.ids, held.documents[of], held.offsets[of] + at - starts[of], tokens), at


def _pieces(segments: Segments, rows: I64, starts: I64) -> Pieces:
    pieces = np.empty(len(rows), PIECE)
    pieces["row"], pieces["start"], pieces["tokens"] = rows, starts, segments.tokens
    pieces["offset"], pieces["document"] = segments.offsets, segments.documents
    return pieces


def _steps(counts: I64) -> I64:
    """0, 1, .. counts[0] - 1, 0, 1, .. counts[1] - 1, and so on."""
    return np.arange(int(counts.sum())) - (np.cumsum(counts) - counts).repeat(counts)


def _nothing(dtype: str) -> Segments:
    none = np.empty(0, np.int64)
    return Segments(np.empty(0, dtype), none, none, none)
