"""Conversations prepared for training: ids and masks in flat files, whatever their number, in memory that is bounded.

    prepare(renderer, train_file, folder, max_seq_len=...) -> Prepared

`Prepared.rows` is a sequence of `Demonstration`, as `chat.examples.demonstrations` gives them in lists, read from the
files when asked for: it can be handed to whatever takes those. Who wants arrays takes `ids`, `mask` and `bounds`.
The ids are those of `Renderer.render`, row by row, and every row keeps the laws of `chat.parity`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, overload

import numpy as np
import tokenizers
from numpy.typing import NDArray

from lifecycle import progress
from lifecycle.chat import panics
from lifecycle.chat.batch import Batch, Encode, render_batch
from lifecycle.chat.examples import TOO_LONG, Check, Demonstration, TooLong, cut_to_fit, nothing_more
from lifecycle.chat.render import Renderer
from lifecycle.data.bpe import as_text
from lifecycle.data.bpe_fast import FastEncoder, grammar_of
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.training.row_laws import TokenBytes, check_batch

BLOCK_ROWS = 8_192  # a block is in memory at a time: 8,192 conversations of 250 tokens are about 60 MB with their text
FILE = "prepared.json"

# `tokenizers` prepares 2 MB of short conversations in a second of CPU time, our loops 10, once numba is loaded (0.7 s).
FAST_FROM_BYTES = 4 << 20


class Prepared(NamedTuple):
    """Row i is `ids[bounds[i] : bounds[i + 1]]`, and 1 in `mask` where the loss counts. The arrays are mapped files."""

    ids: NDArray[np.unsignedinteger]
    mask: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    source_of: NDArray[np.uint16]
    sources: list[str]
    dropped: dict[str, int]
    cut: int
    tokens: dict[str, int]
    supervised: dict[str, int]

    @property
    def rows(self) -> "Rows":
        return Rows(self)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.bounds)

    def supervised_share(self, source: str | None = None) -> float:
        """Share of tokens the loss covers, of one source or of all."""
        own = self.sources if source is None else [source]
        return sum(self.supervised[name] for name in own) / max(1, sum(self.tokens[name] for name in own))


class Rows(Sequence[Demonstration]):
    """The rows one by one, as lists of ids and masks."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def __len__(self) -> int:
        return len(self.prepared.bounds) - 1

    @overload
    def __getitem__(self, at: int) -> Demonstration: ...
    @overload
    def __getitem__(self, at: slice) -> list[Demonstration]: ...
    def __getitem__(self, at: int | slice) -> Demonstration | list[Demonstration]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        number = range(len(self))[at]
        found, (begin, end) = self.prepared, self.prepared.bounds[number : number + 2].tolist()
        source = found.sources[found.source_of[number]]
        return Demonstration(source, found.ids[begin:end].tolist(), found.mask[begin:end].tolist())


def prepare(
    renderer: Renderer,
    file: Path,
    folder: Path,
    *,
    max_seq_len: int,
    too_long: TooLong = "drop",
    also: Check = nothing_more,
) -> Prepared:
    """Render every row (id, source, messages) of a sealed file into `folder`, checked; each left out is counted."""
    with panics.refused(file):
        return _prepare(_Writer(renderer, max_seq_len, too_long, also), file, folder)


def _prepare(writer: "_Writer", file: Path, folder: Path) -> Prepared:
    folder.mkdir(parents=True, exist_ok=True)
    renderer, size = writer.renderer, file.stat().st_size
    encode = encoder(renderer.tokenizer, size)
    known = TokenBytes(renderer.tokenizer) if TokenBytes.are_known(renderer.tokenizer) else None
    with (folder / "ids.bin").open("wb") as ids, (folder / "mask.bin").open("wb") as mask:
        for block in _blocks(load_rows(file)):
            writer.write(block, encode, known, ids, mask)
            progress.report(ids.tell(), size, "bytes", "rendering and checking rows")
    return writer.close(folder)


def load(folder: Path) -> Prepared:
    """What `prepare` wrote to a folder."""
    said = json.loads((folder / FILE).read_bytes())
    ids, mask = (
        np.memmap(folder / f"{name}.bin", dtype, "r") if said["rows"] else np.empty(0, dtype)
        for name, dtype in (("ids", said.pop("dtype")), ("mask", "uint8"))
    )
    del said["rows"]
    return Prepared(ids, mask, np.load(folder / "bounds.npy"), np.load(folder / "source_of.npy"), **said)


def encoder(tokenizer: tokenizers.Tokenizer, size: int) -> Encode:
    """What encodes texts: from FAST_FROM_BYTES on our compiled loops, where they are proven for the tokenizer."""
    grammar = grammar_of(tokenizer) if size >= FAST_FROM_BYTES else None
    whole = as_text(tokenizers.Tokenizer.from_str(tokenizer.to_str()))
    if grammar is None:

        def by_tokenizers(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
            found = [one.ids for one in whole.encode_batch_fast(list(texts), add_special_tokens=False)]
            lengths = np.array([len(ids) for ids in found], np.int64)
            return np.fromiter((i for ids in found for i in ids), np.uint32, int(lengths.sum())), lengths

        return by_tokenizers
    fast = FastEncoder(whole, grammar, bos_id=0)

    def by_loops(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        ids, lengths = fast.encode(texts)  # each text behind a BOS, which is not wanted here
        return np.delete(ids, np.cumsum(lengths) - lengths), lengths - 1

    return by_loops


class _Writer:
    """Appends rendered blocks to the files, and counts."""

    def __init__(self, renderer: Renderer, max_seq_len: int, too_long: TooLong, also: Check) -> None:
        self.renderer, self.max_seq_len, self.too_long, self.also = renderer, max_seq_len, too_long, also
        self.dtype = np.dtype(np.uint16 if max(renderer.tokenizer.get_vocab().values()) < 2**16 else np.uint32)
        self.sources: dict[str, int] = {}
        self.source_of: list[NDArray[np.uint16]] = []
        self.lengths: list[NDArray[np.int64]] = []
        self.dropped, self.tokens, self.supervised = Counter[str](), Counter[str](), Counter[str]()
        self.cut = 0

    def write(self, rows: list[Row], encode: Encode, known: TokenBytes | None, ids: IO[bytes], mask: IO[bytes]) -> None:
        """One block: rendered, checked, and written without the rows that are left out."""
        batch = render_batch(self.renderer, [row["messages"] for row in rows], encode)
        if self.too_long == "cut" and (np.diff(batch.bounds) > self.max_seq_len).any():
            rows = self._cut(rows, batch)
            batch = render_batch(self.renderer, [row["messages"] for row in rows], encode)
        names, conversations = [str(row["id"]) for row in rows], [row["messages"] for row in rows]
        check_batch(self.renderer, names, conversations, batch, known)
        lengths = np.diff(batch.bounds)
        fits = (lengths > 0) & (lengths <= self.max_seq_len)
        self.dropped.update(batch.refused.values())
        self.dropped.update({TOO_LONG: int((lengths > self.max_seq_len).sum())})
        if self.also is not nothing_more:
            for at in np.flatnonzero(fits).tolist():
                own = batch.ids[batch.bounds[at] : batch.bounds[at + 1]].tolist()
                self.also(conversations[at], own, row=names[at])
        chosen = np.repeat(fits, lengths)
        ids.write(batch.ids[chosen].astype(self.dtype).tobytes())
        mask.write(batch.mask[chosen].tobytes())
        self._count(rows, batch, fits)

    def close(self, folder: Path) -> Prepared:
        """Write what is known of the rows, and open it all."""
        bounds = np.concatenate([np.zeros(1, np.int64), *self.lengths])
        np.save(folder / "bounds.npy", np.cumsum(bounds))
        np.save(folder / "source_of.npy", np.concatenate([np.empty(0, np.uint16), *self.source_of]))
        said = {
            "rows": len(bounds) - 1,
            "dtype": self.dtype.name,
            "sources": list(self.sources),
            "dropped": {reason: count for reason, count in sorted(self.dropped.items()) if count},
            "cut": self.cut,
            "tokens": dict(self.tokens),
            "supervised": dict(self.supervised),
        }
        (folder / FILE).write_text(json.dumps(said, indent=1))
        return load(folder)

    def _cut(self, rows: list[Row], batch: Batch) -> list[Row]:
        """The rows with those that are too long cut behind an answer, where one fits."""
        found = []
        for row, length in zip(rows, np.diff(batch.bounds).tolist(), strict=True):
            shorter = (
                cut_to_fit(self.renderer, row["messages"], self.max_seq_len) if length > self.max_seq_len else None
            )
            self.cut += shorter is not None
            found.append(row if shorter is None else {**row, "messages": shorter})
        return found

    def _count(self, rows: list[Row], batch: Batch, fits: NDArray[np.bool_]) -> None:
        own = [self.sources.setdefault(str(row.get("source", "")), len(self.sources)) for row in rows]
        numbers, lengths = np.array(own, np.uint16), np.diff(batch.bounds)
        covered = np.diff(np.concatenate([[0], np.cumsum(batch.mask, dtype=np.int64)])[batch.bounds])
        for name, number in self.sources.items():
            chosen = fits & (numbers == number)
            self.tokens[name] += int(lengths[chosen].sum())
            self.supervised[name] += int(covered[chosen].sum())
        self.lengths.append(lengths[fits])
        self.source_of.append(numbers[fits])


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while block := list(islice(rest, BLOCK_ROWS)):
        yield block
