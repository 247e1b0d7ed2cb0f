"""Parquet: a cell that is no text is one bad row; a column that is none, or a broken file, is one clear error."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifecycle.data import jsonl
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.shards import read_shard, shards_of
from lifecycle.errors import InputError


def read(path, shard_bytes: int = 2**30, **said) -> list[Document | Bad]:
    source = Source(name="sea", path=path, licence="CC0-1.0", **said)
    return [found for shard in shards_of(source, shard_bytes=shard_bytes) for found in read_shard(shard)]


def undecodable(*values: bytes) -> pa.Array:
    """A column that says it is text and is not: what a careless writer makes."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_cells_that_are_no_text_are_quarantined_each_under_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100)
    texts = undecodable(b"fine", b"Ma\xf1ana", b"\xed\xa0\x80", b"a\0b", b" ", "é".encode() * 51)
    table = pa.table({"text": pa.concat_arrays([texts, pa.array([None, "last"], pa.string())])})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [(bad.id, bad.drop.reason) for bad in found if isinstance(bad, Bad)] == [
        ("2", "row_not_utf8"),
        ("3", "row_not_utf8"),  # a lone surrogate
        ("4", "row_nul"),
        ("5", "row_no_text"),
        ("6", "row_too_long"),
        ("7", "row_no_text"),
    ]
    assert [found[0], found[-1]] == [("sea", "1", "fine"), ("sea", "8", "last")]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_is_text_however_arrow_keeps_it(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"], kind)}), tmp_path / "a.parquet")
    assert [found.text for found in read(tmp_path / "a.parquet")] == ["a", "b", "a"]


def test_a_struct_is_a_record(tmp_path):
    pq.write_table(pa.table({"record": [{"section": "libs", "size": 12}]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text_field="record") == [("sea", "1", '{"section":"libs","size":12}')]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"]}, r"expected a column 'text' with the text, found \['body'\]. Set text_field."),
        ({"text": [7]}, "expected text in column 'text', found int64. Set text_field."),
        ({"text": [["a"]]}, "expected text in column 'text', found list<.*>. Set text_field."),
        ({"text": [b"a"]}, "expected text in column 'text', found binary. Set text_field."),
        ({"text": ["a"], "id": [7]}, "expected text in the id column 'id', found int64. Set id_field to another"),
    ],
)
def test_a_column_of_another_type_is_one_clear_error(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a.parquet: {message}"):
        read(tmp_path / "a.parquet")


def test_a_file_cut_short_or_damaged_is_one_clear_error(tmp_path):
    pq.write_table(pa.table({"text": [f"{n} fine" for n in range(5_000)]}), tmp_path / "a.parquet", compression="zstd")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-10])
    for shard_bytes in (1, 2**30):
        with pytest.raises(InputError, match=r"a.parquet: expected a Parquet file, found: .*Restore the file"):
            read(tmp_path / "a.parquet", shard_bytes)
    (tmp_path / "a.parquet").write_bytes(whole[:500] + b"damaged" * 10 + whole[570:])
    with pytest.raises(InputError, match=r"a.parquet: expected a readable Parquet file, found from row \d+ on: "):
        read(tmp_path / "a.parquet")


def test_shards_are_runs_of_row_groups_that_know_their_first_row(tmp_path):
    pq.write_table(pa.table({"text": [f"{n}" * 40 for n in range(10)]}), tmp_path / "a.parquet", row_group_size=4)
    source = Source(name="sea", path=tmp_path / "a.parquet", licence="CC0-1.0")
    parts = [shard.part for shard in shards_of(source, shard_bytes=1)]
    assert [(part.begin, part.end, part.first) for part in parts] == [(0, 1, 1), (1, 2, 5), (2, 3, 9)]
    assert [found.id for found in read(tmp_path / "a.parquet", 1)] == [str(n) for n in range(1, 11)]
