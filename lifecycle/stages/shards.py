"""Documents to fixed-length rows of ids, in files a trainer maps into memory."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Corpus, Tokenizer, TokenShards
from lifecycle.chat.protocol import load_tokenizer
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.data.order import shuffled
from lifecycle.data.packing import INDEX, Index, RowWriter, dtype_for, encode_documents
from lifecycle.errors import InputError
from lifecycle.sealing import StageConfig

REPORT_EVERY_DOCUMENTS = 500


class ShardsConfig(StageConfig):
    """How documents become rows. `max_seq_len` has its home here: every later stage reads it from its input."""

    stage: ClassVar[str] = "shards"
    max_seq_len: int = Field(512, ge=8, description="Tokens per row, for every later stage too.")
    rows_per_shard: int = Field(65_536, ge=1, description="Rows in a file; at 2,048 tokens of 2 bytes that is 256 MB.")
    seed: int = Field(0, description="Names the order in which documents are laid out.")


def pack_shards(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, *, out_dir: Path) -> TokenShards:
    """Concatenate documents in shuffled order, each behind a BOS token, and cut them into equal rows."""
    contracts.trained_on(tokenizer, corpus)
    train, tokens_by_source = _pack(config, corpus.train_file, tokenizer, out_dir, "train-{:05d}.bin")
    validation, _ = _pack(config, corpus.validation_file, tokenizer, out_dir, "validation.bin", one_file=True)
    index = Index(
        max_seq_len=config.max_seq_len,
        dtype=dtype_for(tokenizer.vocab_size),
        shards=train.shards,
        validation=validation.shards[0],
        tokens_by_source=tokens_by_source,
        tail_tokens=len(train.tail),
        validation_tail_tokens=len(validation.tail),
    )
    (out_dir / INDEX).write_text(index.model_dump_json(indent=1))
    rows = sum(shard.rows for shard in index.shards)
    return TokenShards(
        path=out_dir,
        max_seq_len=config.max_seq_len,
        vocab_size=tokenizer.vocab_size,
        rows=rows,
        validation_rows=index.validation.rows,
        tokens=rows * config.max_seq_len,
        dtype=index.dtype,
        tokens_by_source=tokens_by_source,
        protocol_digest=tokenizer.protocol_digest,
    ).seal(config, corpus, tokenizer)


def _pack(
    config: ShardsConfig, file: Path, tokenizer: Tokenizer, out_dir: Path, name: str, *, one_file: bool = False
) -> tuple[RowWriter, dict[str, int]]:
    """Write the rows of one split. Returns the writer, closed, and the tokens in whole rows by source."""
    rows = list(load_rows(file))
    rows = [rows[index] for index in shuffled(range(len(rows)), len(rows), "documents", config.seed)]
    writer = RowWriter(
        out_dir,
        (name.format(number) for number in count()),
        max_seq_len=config.max_seq_len,
        rows_per_shard=2**62 if one_file else config.rows_per_shard,
        dtype=dtype_for(tokenizer.vocab_size),
    )
    lengths: list[int] = []
    writer.write(_encode(rows, tokenizer, lengths))
    if not writer.close():
        raise InputError(
            f"expected at least one row of {config.max_seq_len} tokens from {file.name}, found {len(writer.tail)} "
            "tokens. Add text, lower shards.max_seq_len, or raise corpus.validation_share."
        )
    return writer, _tokens_by_source(rows, lengths, len(writer.tail))


def _encode(rows: Sequence[Row], tokenizer: Tokenizer, lengths: list[int]) -> Iterator[list[int]]:
    """The ids of each document; their number is appended to `lengths`."""
    bpe = load_tokenizer(tokenizer.path)
    for done, ids in enumerate(encode_documents(bpe, [row["text"] for row in rows], bos_id=tokenizer.bos_id)):
        if done % REPORT_EVERY_DOCUMENTS == 0:
            progress.report(done, len(rows), "documents", "encoding")
        lengths.append(len(ids))
        yield ids


def _tokens_by_source(rows: Sequence[Row], lengths: Sequence[int], tail: int) -> dict[str, int]:
    """Tokens that made it into a row, by source: what is in the tail came last."""
    ends = np.minimum(np.cumsum(lengths), sum(lengths) - tail)
    tokens: dict[str, int] = dict.fromkeys(sorted({row["source"] for row in rows}), 0)
    for row, length in zip(rows, np.diff(ends, prepend=0), strict=True):
        tokens[row["source"]] += int(length)
    return tokens
