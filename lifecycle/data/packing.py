"""Token rows on disk: `train-*.bin`, `validation.bin` and `index.json`, and the reader that training uses.

# B rows, T tokens of a row
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from lifecycle.data.bpe import as_text
from lifecycle.data.order import shuffled
from lifecycle.errors import DamagedArtifact

INDEX = "index.json"
ENCODE_DOCUMENTS = 512  # per batch: enough to keep every core busy, few enough to report progress


class Shard(BaseModel):
    """One file of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    rows: int


class Index(BaseModel):
    """What `index.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_seq_len: int
    dtype: Literal["uint16", "uint32"]
    shards: list[Shard]
    validation: Shard
    tokens_by_source: dict[str, int]
    tail_tokens: int
    """Tokens of the last documents that did not fill a row, and are lost."""
    validation_tail_tokens: int


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str], *, bos_id: int) -> Iterator[list[int]]:
    """The ids of each text behind one BOS. What looks like a special token in a text is text."""
    as_text(tokenizer)
    for start in range(0, len(texts), ENCODE_DOCUMENTS):
        batch = list(texts[start : start + ENCODE_DOCUMENTS])
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            yield [bos_id, *encoding.ids]


class RowWriter:
    """Cuts a stream of ids into rows of `max_seq_len` and writes them, `rows_per_shard` to a file."""

    def __init__(
        self, folder: Path, names: Iterable[str], *, max_seq_len: int, rows_per_shard: int, dtype: str
    ) -> None:
        self.folder, self.names, self.dtype = folder, iter(names), dtype
        self.max_seq_len, self.rows_per_shard = max_seq_len, rows_per_shard
        self.shards: list[Shard] = []
        self.tail: NDArray[np.unsignedinteger] = np.empty(0, dtype)

    def write(self, ids: Iterable[list[int]]) -> None:
        """Append documents. A full shard is written as soon as it is full."""
        shard_tokens = self.rows_per_shard * self.max_seq_len
        parts, held = [self.tail], len(self.tail)
        for document in ids:
            parts.append(np.array(document, self.dtype))
            held += len(document)
            while held >= shard_tokens:
                tokens = np.concatenate(parts)
                self._write_shard(tokens[:shard_tokens])
                parts, held = [tokens[shard_tokens:]], held - shard_tokens
        self.tail = np.concatenate(parts)

    def close(self) -> list[Shard]:
        """Write the whole rows that are left, and keep in `tail` what fills none."""
        whole = len(self.tail) // self.max_seq_len * self.max_seq_len
        if whole:
            self._write_shard(self.tail[:whole])
            self.tail = self.tail[whole:]
        return self.shards

    def _write_shard(self, tokens: NDArray[np.unsignedinteger]) -> None:
        name = next(self.names)
        tokens.astype(f"<{np.dtype(self.dtype).str[1:]}").tofile(self.folder / name)
        self.shards.append(Shard(file=name, rows=len(tokens) // self.max_seq_len))


class ShardReader:
    """The rows of sealed token shards, memory-mapped: opening costs nothing, a row costs its bytes."""

    def __init__(self, folder: Path) -> None:
        try:
            self.index = Index.model_validate_json((folder / INDEX).read_bytes())
        except (OSError, ValidationError) as error:
            raise DamagedArtifact(f"{folder}: no readable {INDEX} ({error}). Pack the shards again.") from error
        self.folder = folder
        self.max_seq_len = self.index.max_seq_len
        if len({shard.file for shard in self.index.shards}) != len(self.index.shards):
            raise DamagedArtifact(f"{folder / INDEX}: a shard is listed twice. Pack the shards again.")
        self._maps = [self._map(shard) for shard in self.index.shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in self.index.shards)])

    def __len__(self) -> int:
        """Training rows."""
        return int(self._starts[-1])

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The training rows at these global indices, shape (B, T), as the int64 that embeddings want."""
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"expected rows 0 to {len(self) - 1}, found {wanted.min()} to {wanted.max()}")
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        rows_BT = np.empty((len(wanted), self.max_seq_len), np.int64)
        for out, (shard, row) in enumerate(zip(shards, wanted - self._starts[shards], strict=True)):
            rows_BT[out] = self._maps[shard][row]
        return rows_BT

    def validation(self) -> NDArray[np.int64]:
        """All held-out rows, shape (B, T)."""
        return self._map(self.index.validation).astype(np.int64)

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

    def _map(self, shard: Shard) -> NDArray[np.unsignedinteger]:
        path = self.folder / shard.file
        shape = (shard.rows, self.max_seq_len)
        dtype = np.dtype(self.index.dtype).newbyteorder("<")
        expected = shard.rows * self.max_seq_len * dtype.itemsize
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise DamagedArtifact(
                f"{path}: expected {expected} bytes ({shard.rows} rows of {self.max_seq_len} {self.index.dtype}), "
                f"found {'no file' if found is None else found}. Pack the shards again."
            )
        if shard.rows == 0:  # an empty file cannot be mapped
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", shape=shape)
