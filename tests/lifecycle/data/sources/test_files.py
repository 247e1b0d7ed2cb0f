"""Folders: which files are read, and what happens to those that cannot be."""

import gzip
import tracemalloc

import pyarrow as pa
import pytest

from lifecycle.data import jsonl
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources import files
from lifecycle.data.sources.places import DataFolder, TextFolder
from lifecycle.data.sources.shards import read_shard, shards_of
from lifecycle.errors import InputError
from lifecycle.sealing import canonical


def source(path, **said) -> Source:
    return Source(name="sea", path=path, licence="CC0-1.0", **said)


def read(of: Source) -> list[Document | Bad]:
    return [found for shard in shards_of(of) for found in read_shard(shard)]


def test_a_pattern_says_which_files_of_a_folder_are_meant(tmp_path):
    for name in ("b/2.jsonl", "a/1.jsonl", "a/notes.md", "c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'{"text": "fine"}\n')
    found = read(source(DataFolder(path=tmp_path, glob="*/*.jsonl")))
    assert [document.id for document in found] == ["a/1.jsonl:1", "b/2.jsonl:1"]


def test_a_file_of_another_format_in_a_folder_is_refused_not_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n')
    (tmp_path / "README.md").touch()
    with pytest.raises(InputError, match=r"found 1 others, such as \['README.md'\].*path=DataFolder\(path=..., glob="):
        shards_of(source(tmp_path))
    with pytest.raises(InputError, match=r"README.md: expected a name in .*each file of a folder is one text, say"):
        shards_of(source(tmp_path / "README.md"))


@pytest.mark.parametrize("glob", ["*.parquet", "../*", "*/"])
def test_a_pattern_that_matches_no_file_of_the_folder_is_refused(tmp_path, glob):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.jsonl").touch()
    (tmp_path / "inside/a.jsonl").touch()
    with pytest.raises(InputError, match=r"expected files that match .*, found none of 1"):
        shards_of(source(DataFolder(path=tmp_path / "inside", glob=glob)))
    with pytest.raises(InputError, match=r"expected a pattern such as .*, found '/etc/\*'"):
        shards_of(source(DataFolder(path=tmp_path, glob="/etc/*")))


@pytest.mark.parametrize("target", ["file.jsonl", "folder"])
def test_a_link_in_a_folder_is_refused_by_reader_and_identity(tmp_path, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.jsonl").touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/link").symlink_to(tmp_path / target)
    for use in (shards_of, canonical):
        with pytest.raises(InputError, match=r"raw/link: expected no link, found one. Copy what it points to."):
            use(source(tmp_path / "raw"))


def test_text_files_that_are_no_text_are_quarantined_each_under_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100)
    contents = {
        "empty.txt": b" \n",
        "fine.txt": "Mañana\r\n".encode(),
        "latin.txt": b"Ma\xf1ana",
        "long.txt": b"x" * 101,
        "nul.txt": b"a\0b",
        "packed.txt.gz": gzip.compress(b"packed"),
        "torn.txt.gz": gzip.compress(b"torn" * 10)[:-9],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / b"odd\xff.txt".decode("utf-8", "surrogateescape")).write_text("fine")
    found = read(source(TextFolder(path=tmp_path, glob="*.txt*")))
    assert {bad.id: bad.drop.reason for bad in found if isinstance(bad, Bad)} == {
        "empty.txt": "row_no_text",
        "latin.txt": "row_not_utf8",
        "long.txt": "row_too_long",
        "nul.txt": "row_nul",
        "torn.txt.gz": "row_unreadable",
        "odd\\udcff.txt": "row_bad_id",
    }
    texts = [found for found in found if isinstance(found, Document)]
    assert texts == [("sea", "fine.txt", "Mañana\r\n"), ("sea", "packed.txt.gz", "packed")]


def test_a_text_that_is_gone_since_the_folder_was_listed_is_refused_not_counted_as_bad(tmp_path):
    (tmp_path / "a.txt").write_text("fine")
    shards = shards_of(source(TextFolder(path=tmp_path)))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"a.txt: expected a readable file, found: .*No such file"):
        list(read_shard(shards[0]))


def test_small_texts_share_a_shard_in_the_order_of_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "TEXTS_A_SHARD", 3)
    for n in range(10):
        (tmp_path / f"{n}.txt").write_text("x" * 10)
    of = source(TextFolder(path=tmp_path))
    assert [len(shard.part.names) for shard in shards_of(of)] == [3, 3, 3, 1]
    assert [len(shard.part.names) for shard in shards_of(of, shard_bytes=20)] == [2, 2, 2, 2, 2]
    assert [found.id for found in read(of)] == [f"{n}.txt" for n in range(10)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_beyond_the_limit_is_never_held_and_the_next_one_is_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 2**20)
    content = b'{"text": "' + b"x" * 32 * 2**20 + b'"}\n{"text": "fine"}\n'
    file = tmp_path / f"rows.jsonl{suffix}"
    if suffix == ".zst":
        with pa.CompressedOutputStream(str(file), "zstd") as sink:
            sink.write(content)
    else:
        file.write_bytes(gzip.compress(content, 1) if suffix else content)
    del content
    tracemalloc.start()
    found = read(source(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [getattr(row, "drop", ("",))[0] for row in found] == ["row_too_long", ""]
    assert peak < 8 * 2**20


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_torn_archive_is_one_clear_error(tmp_path, suffix):
    content = b"".join(b'{"text": "%d fine"}\n' % n for n in range(20_000))
    file = tmp_path / f"rows.jsonl.{suffix}"
    if suffix == "zst":
        with pa.CompressedOutputStream(str(file), "zstd") as sink:
            sink.write(content)
    else:
        file.write_bytes(gzip.compress(content))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=rf"rows.jsonl.{suffix}:\d+: expected readable lines, found: .*Restore the file"
    ):
        read(source(file))
