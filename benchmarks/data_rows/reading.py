"""Reading: from the bytes of a file to documents that were judged, in three formats."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data_rows import Row, compare
from lifecycle.data.documents import Source
from lifecycle.data.jsonl import load_rows
from lifecycle.data.sources.shards import read_shard, shards_of


def rows(corpus_dir: Path) -> list[Row]:
    """A row a format, against datatrove's readers, which judge nothing."""
    from datatrove.pipeline.readers import JsonlReader, ParquetReader

    lines = corpus_dir / "corpus.jsonl"
    packed, table = corpus_dir / "packed.jsonl.gz", corpus_dir / "table.parquet"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    pq.write_table(pa.Table.from_pylist(list(load_rows(lines))), table, compression="zstd")
    megabytes = lines.stat().st_size / 1e6
    folder = str(corpus_dir)
    return [
        _row("JSON Lines | datatrove", lines, JsonlReader(folder, glob_pattern=lines.name), megabytes),
        _row("JSON Lines, gzip | datatrove", packed, JsonlReader(folder, glob_pattern=packed.name), megabytes),
        _row("Parquet | datatrove", table, ParquetReader(folder, glob_pattern=table.name), megabytes),
    ]


def _row(name: str, path: Path, reader: Callable[[], object], megabytes: float) -> Row:
    source = Source(name="reading", path=path, licence="CC0-1.0")

    def ours() -> list[tuple[str, str]]:
        return [(found.id, found.text) for shard in shards_of(source) for found in read_shard(shard)]

    def peer() -> list[tuple[str, str]]:
        return [(found.id, found.text) for found in reader()]

    if ours() != peer():
        raise SystemExit(f"expected the same documents from datatrove, found others in {path.name}")
    return compare(f"reading {name}", ours, peer, megabytes=megabytes, at_least=1)
