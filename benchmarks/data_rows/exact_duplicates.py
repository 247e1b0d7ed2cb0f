"""Exact deduplication, JSON Lines in, the first row of each text out."""

import tempfile
from pathlib import Path

import orjson

from benchmarks.data_rows import Row, compare
from lifecycle.data.dedup import digests, first_copies

COLUMNS = "columns={'id': 'varchar', 'text': 'varchar'}"


def rows(corpus_dir: Path) -> list[Row]:
    """One row, against duckdb's DISTINCT ON."""
    import duckdb

    source = corpus_dir / "corpus.jsonl"
    connection = duckdb.connect()
    connection.execute("set threads=1")
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "ours.jsonl", Path(folder) / "duckdb.jsonl"
        query = (
            f"copy (select distinct on (text) id, text "
            f"from read_json('{source}', format='newline_delimited', {COLUMNS})) to '{theirs}' (format json)"
        )

        def ours() -> None:
            lines = source.read_bytes().splitlines(keepends=True)
            first = first_copies(digests(orjson.loads(line)["text"].encode() for line in lines))
            mine.write_bytes(b"".join(line for i, line in enumerate(lines) if first[i] == i))

        ours()
        connection.execute(query)
        if _texts(mine) != _texts(theirs):
            raise SystemExit("expected the same distinct texts from duckdb, found others")
        megabytes = source.stat().st_size / 1e6
        return [
            compare(
                "exact duplicates | duckdb distinct on",
                ours,
                lambda: connection.execute(query),
                megabytes=megabytes,
                at_least=0.5,
            )
        ]


def _texts(path: Path) -> list[str]:
    return sorted(orjson.loads(line)["text"] for line in path.open("rb"))
