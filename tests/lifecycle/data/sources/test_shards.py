"""However a source is cut, and in whatever format it is kept, its documents, their ids and their order are the same."""

import gzip
import pickle
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifecycle.data import jsonl
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.places import DataFolder, TextFolder
from lifecycle.data.sources.shards import read_shard, shards_of
from lifecycle.errors import InputError
from lifecycle.sealing import canonical

ROWS = [{"text": f"{n} " + "línea de mar " * (n % 7)} | ({"id": f"named-{n}"} if n % 3 else {}) for n in range(40)]


def source(path, **said) -> Source:
    return Source(name="sea", path=path, licence="CC0-1.0", **said)


def read(of: Source, shard_bytes: int = 2**20) -> list[Document | Bad]:
    return [found for shard in shards_of(of, shard_bytes=shard_bytes) for found in read_shard(shard)]


def lines(rows) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def packed(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


def write_parquet(path: Path, rows, *, group_rows: int = 3) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group_rows)


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A folder with each format, one of them with every kind of poison."""
    folder = tmp_path / "mixed"
    (folder / "b").mkdir(parents=True)
    poison = b'\n{"text": 7}\n[]\n{"text": "\\ud800"}\n{"text": "a\\u0000"}\n{"id": 3, "text": "fine"}\n' + b"[" * 3_000
    (folder / "a.jsonl").write_bytes(lines(ROWS) + poison + b"\n" + lines(ROWS)[:-1])  # and no last newline
    (folder / "b/one.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    (folder / "b/two.ndjson.zst").write_bytes(packed(lines(ROWS[:20])) + packed(lines(ROWS[20:])))
    write_parquet(folder / "c.parquet", [{"id": f"row-{n}", **row} for n, row in enumerate(ROWS)])
    return folder


@pytest.mark.parametrize("shard_bytes", [1, 100, 1_000])
def test_documents_ids_and_order_do_not_depend_on_the_size_of_a_shard(mixed, monkeypatch, shard_bytes):
    whole = read(source(mixed))
    monkeypatch.setattr(jsonl, "SCAN_BYTES", 64)
    assert read(source(mixed), shard_bytes) == whole
    assert len(shards_of(source(mixed), shard_bytes=shard_bytes)) > len(shards_of(source(mixed))) == 4
    assert sum(isinstance(found, Bad) for found in whole) == 7


def test_rows_keep_their_names_and_nameless_ones_are_named_by_file_and_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n\n{"id": "x", "text": "three"}\n')
    assert read(source(tmp_path / "a.jsonl"))[::2] == [Document("sea", "1", "one"), Document("sea", "x", "three")]
    in_folder = read(source(tmp_path))
    assert [found.id for found in in_folder] == ["a.jsonl:1", "a.jsonl:2", "x"]
    assert in_folder[1] == Bad("sea", "a.jsonl:2", ("row_empty_line", "a.jsonl:2"), "\n")


def test_every_format_gives_the_same_documents(tmp_path):
    rows = [{"id": f"{n}", "text": row["text"]} for n, row in enumerate(ROWS)]
    (tmp_path / "rows.jsonl").write_bytes(lines(rows))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines(rows)))
    (tmp_path / "rows.json.zst").write_bytes(packed(lines(rows)))
    write_parquet(tmp_path / "rows.parquet", rows)
    (tmp_path / "texts").mkdir()
    for row in rows:
        (tmp_path / "texts" / f"{row['id']:>02}").write_text(row["text"])
    found = [read(source(tmp_path / f"rows.{end}")) for end in ("jsonl", "jsonl.gz", "json.zst", "parquet")]
    assert found[0] == found[1] == found[2] == found[3]
    texts = read(source(TextFolder(path=tmp_path / "texts", glob="*")))
    assert [text.text for text in texts] == [document.text for document in found[0]]


def test_a_shard_travels_to_another_process_and_reads_the_same_there(mixed):
    shards = shards_of(source(mixed), shard_bytes=500)
    for shard in (shards[0], shards[len(shards) // 2], shards[-1]):
        wire = pickle.dumps(shard)
        assert len(wire) < 2_000
        assert list(read_shard(pickle.loads(wire))) == list(read_shard(shard))


def test_without_an_id_field_rows_are_named_by_position_whatever_they_carry(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"id": 7, "text": "a"}\n{"key": "k", "text": "b"}\n')
    of = tmp_path / "rows.jsonl"
    assert [found.id for found in read(source(of, id_field=None))] == ["1", "2"]
    assert [found.id for found in read(source(of, id_field="key"))] == ["1", "k"]
    assert isinstance(read(source(of))[0], Bad)


def test_a_folder_s_identity_follows_its_bytes_and_the_names_of_its_files(mixed, tmp_path):
    before = canonical(source(mixed))
    (mixed / "a.jsonl").rename(mixed / "renamed.jsonl")
    renamed = canonical(source(mixed))
    (mixed / "renamed.jsonl").write_bytes(b"{}\n")
    changed = canonical(source(mixed))
    assert len({str(identity) for identity in (before, renamed, changed)}) == 3
    moved = tmp_path / "elsewhere"
    mixed.rename(moved)
    assert canonical(source(moved)) == changed
    folder = canonical(source(DataFolder(path=moved, glob="*.parquet")))["path"]
    assert folder == {"kind": "data_folder", "path": changed["path"], "glob": "*.parquet"}


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a file or folder at .*nowhere, found none. Check the path"):
        shards_of(source(tmp_path / "nowhere"))
