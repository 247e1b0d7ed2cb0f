"""Documents to fixed-length rows of ids, in files a trainer maps into memory."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Corpus, Tokenizer, TokenShards
from lifecycle.chat import golden, panics
from lifecycle.chat.protocol import load_tokenizer
from lifecycle.data.encoding import Encoder, Text, in_batches, source_numbers
from lifecycle.data.jsonl import Lines
from lifecycle.data.layout import BestFit, Concatenated, Packing, Segments, cuts_by_best_fit, cuts_by_concatenation
from lifecycle.data.order import shuffled
from lifecycle.data.packing import INDEX, Cuts, Index, RowWriter, Shard, dtype_for, write_sources
from lifecycle.errors import InputError
from lifecycle.sealing import LOG_FOLDER, StageConfig

ORDER_AT_ONCE = 8192


class ShardsConfig(StageConfig):
    """How documents become rows. `max_seq_len` has its home here: every later stage reads it from its input."""

    stage: ClassVar[str] = "shards"
    revision: ClassVar[int] = 3
    max_seq_len: int = Field(512, ge=8, description="Tokens per row, for every later stage too.")
    packing: Literal["concatenate", "best_fit"] = Field(
        "concatenate",
        description="End to end and cut, no padding; or each document whole where a row holds it, the rest padded.",
    )
    rows_per_shard: int = Field(65_536, ge=1, description="Rows in a file; at 2,048 tokens of 2 bytes that is 256 MB.")
    seed: int = Field(0, description="Names the order in which documents are laid out.")


class Packed(NamedTuple):
    """What became of one split."""

    shards: list[Shard]
    tokens_by_source: dict[str, int]
    padding_tokens: int
    tail_tokens: int
    lengths: NDArray[np.int64]
    bytes_per_token: dict[str, float]
    """Of each source, in the order of their numbers."""
    source_of_line: NDArray[np.int64]


def pack_shards(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, *, out_dir: Path) -> TokenShards:
    """Documents in shuffled order, each behind a BOS token, in rows of equal length with their boundaries kept."""
    contracts.trained_on(tokenizer, corpus)
    dtype = dtype_for(tokenizer.vocab_size)
    packing: Packing = Concatenated(config.max_seq_len, dtype)
    if config.packing == "best_fit":
        packing = BestFit(config.max_seq_len, dtype, pad_id=tokenizer.pad_id, window_rows=config.rows_per_shard)
    # Held-out rows are end to end whatever the training rows are: their loss compares two ways of packing.
    end_to_end, held_out = Concatenated(config.max_seq_len, dtype), corpus.validation_file
    with panics.refused(tokenizer.path):
        train = _pack(config, packing, corpus.train_file, tokenizer, out_dir, "train-{:05d}.bin")
        validation = _pack(config, end_to_end, held_out, tokenizer, out_dir, "validation.bin", one_file=True)
    index = Index(
        max_seq_len=config.max_seq_len,
        dtype=dtype,
        packing=config.packing,
        pad_id=tokenizer.pad_id,
        shards=train.shards,
        validation=validation.shards[0],
        tokens_by_source=train.tokens_by_source,
        padding_tokens=train.padding_tokens,
        tail_tokens=train.tail_tokens,
        validation_tail_tokens=validation.tail_tokens,
        validation_sources=validation.bytes_per_token,
        validation_sources_sha256=write_sources(out_dir, validation.source_of_line),
        cuts=_cuts(config, train.lengths),
    )
    (out_dir / INDEX).write_text(index.model_dump_json(indent=1))
    golden.keep(tokenizer.path, out_dir)
    rows = sum(shard.rows for shard in index.shards)
    return TokenShards(
        path=out_dir,
        max_seq_len=config.max_seq_len,
        vocab_size=tokenizer.vocab_size,
        rows=rows,
        validation_rows=index.validation.rows,
        tokens=rows * config.max_seq_len - index.padding_tokens,
        dtype=index.dtype,
        tokens_by_source=index.tokens_by_source,
        protocol_digest=tokenizer.protocol_digest,
    ).seal(config, corpus, tokenizer)


def _pack(
    config: ShardsConfig,
    packing: Packing,
    file: Path,
    tokenizer: Tokenizer,
    out_dir: Path,
    name: str,
    *,
    one_file: bool = False,
) -> Packed:
    """Write the rows of one split."""
    lines = Lines(file)
    rows_per_shard = 2**62 if one_file else config.rows_per_shard
    writer = RowWriter(out_dir, (name.format(n) for n in count()), packing, rows_per_shard=rows_per_shard)
    encoder = Encoder(load_tokenizer(tokenizer.path), bos_id=tokenizer.bos_id, total_bytes=lines.bytes)
    sources: dict[str, int] = {}
    source_of_line = np.zeros(len(lines), np.int64)
    lengths: list[NDArray[np.int64]] = []
    bytes_of: list[NDArray[np.int64]] = []
    source_of: list[NDArray[np.int64]] = []
    done = 0
    for texts, encoded in encoder.encode(in_batches(_in_order(lines, config.seed))):
        documents = np.array([text.line for text in texts], np.int64)
        source_of_line[documents] = source_numbers(texts, sources)
        writer.write(Segments.whole(encoded.ids.astype(dtype_for(tokenizer.vocab_size)), encoded.lengths, documents))
        lengths.append(encoded.lengths)
        bytes_of.append(np.array([len(text.text.encode()) for text in texts], np.int64))
        source_of.append(source_of_line[documents])
        done += len(texts)
        progress.report(done, len(lines), "documents", "encoding")
    if not writer.close():
        raise InputError(
            f"expected at least one row of {config.max_seq_len} tokens from {file.name}, found "
            f"{len(packing.tail.ids)} tokens. Add text, lower shards.max_seq_len, or raise corpus.validation_share."
        )
    _log_encoding(out_dir, file, encoder)
    all_lengths, tail = np.concatenate(lengths), packing.tail
    in_documents = np.bincount(np.concatenate(source_of), weights=all_lengths, minlength=len(sources))
    text_bytes = np.bincount(np.concatenate(source_of), weights=np.concatenate(bytes_of), minlength=len(sources))
    in_tail = np.bincount(source_of_line[tail.documents], weights=tail.tokens, minlength=len(sources))
    in_rows = sum(shard.rows for shard in writer.shards) * config.max_seq_len
    return Packed(
        shards=writer.shards,
        tokens_by_source={name: int((in_documents - in_tail)[sources[name]]) for name in sorted(sources)},
        padding_tokens=in_rows + len(tail.ids) - int(all_lengths.sum()),
        tail_tokens=len(tail.ids),
        lengths=all_lengths,
        bytes_per_token={name: float(text_bytes[n] / in_documents[n]) for name, n in sources.items()},
        source_of_line=source_of_line,
    )


def _in_order(lines: Lines, seed: int) -> Iterator[Text]:
    """The documents in the order that the seed names; the file is read by line, never held."""
    for first in range(0, len(lines), ORDER_AT_ONCE):
        positions = np.arange(first, min(first + ORDER_AT_ONCE, len(lines)))
        for line in shuffled(positions, len(lines), "documents", seed).tolist():
            row = lines[line]
            yield Text(line, row["source"], row["text"])


def _cuts(config: ShardsConfig, lengths: NDArray[np.int64]) -> Cuts:
    by = {
        "concatenate": cuts_by_concatenation(lengths, config.max_seq_len),
        "best_fit": cuts_by_best_fit(lengths, config.max_seq_len),
    }
    return Cuts(
        documents=len(lengths),
        longer_than_a_row=int((lengths > config.max_seq_len).sum()),
        cut_documents=int((by[config.packing] > 0).sum()),
        cut_documents_by_concatenation=int((by["concatenate"] > 0).sum()),
        cut_documents_by_best_fit=int((by["best_fit"] > 0).sum()),
        cuts=int(by[config.packing].sum()),
        cuts_by_concatenation=int(by["concatenate"].sum()),
        cuts_by_best_fit=int(by["best_fit"].sum()),
    )


def _log_encoding(out_dir: Path, file: Path, encoder: Encoder) -> None:
    """Which encoder it was: how it ran, for the ids are the same."""
    (out_dir / LOG_FOLDER).mkdir(exist_ok=True)
    facts = {
        "fast_path": encoder.grammar is not None,
        "documents_left_to_tokenizers": encoder.documents_left_to_tokenizers,
    }
    (out_dir / LOG_FOLDER / f"encoding-{file.stem}.json").write_text(json.dumps(facts, indent=1))
