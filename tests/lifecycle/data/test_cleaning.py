"""A shard is cleaned step by step: every document leaves or is dropped, and every change is counted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from lifecycle.data import cleaning
from lifecycle.data.clean_shards import CleanShard, Piece, texts_of
from lifecycle.data.cleaning import Cleaning, ShardTask, clean_shard, read_only
from lifecycle.data.corpus_report import Tally
from lifecycle.data.documents import Source
from lifecycle.data.filters import C4LineRules, C4Rules, QualityRules
from lifecycle.data.normalise import Normalisation
from lifecycle.data.scrub import Scrubbing
from lifecycle.data.sources.shards import shards_of
from lifecycle.errors import DamagedArtifact

LINES = C4Rules(lines=C4LineRules(min_sentences=1))
RULES = Cleaning(
    normalisation=Normalisation(),
    quality=QualityRules(gopher=None, repetition=None, c4=LINES, fineweb=None),
    scrubbing=Scrubbing(),
)
ROWS = [
    {"id": "a", "text": "Write to ahab@pequod.example at once.\r\n"},
    {"id": "b", "text": "\u200b \u200b"},
    {"id": "c", "text": "A long enough sentence ends here.\nnot this line"},
    {"id": "d", "text": "no sentence at all"},
]


@pytest.fixture
def task(tmp_path: Path) -> ShardTask:
    file = tmp_path / "sea.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS) + b'{"torn\n')
    (shard,) = shards_of(Source(name="sea", path=file, licence="CC0-1.0"))
    return ShardTask(0, shard, RULES, seed=0, samples_per_reason=2, folder=tmp_path / "clean")


def test_each_step_leaves_or_drops_and_counts_what_it_changes(task):
    found = clean_shard(task)
    assert {step: counts.left.documents for step, counts in found.steps.items()} == {
        "read": 4,
        "normalise": 3,
        "quality": 2,
        "scrub": 2,
    }
    assert found.steps["read"].dropped == {"row_bad_json": Tally(documents=1)}
    assert found.steps["normalise"].dropped == {"normalised_to_nothing": Tally(documents=1, bytes=7)}
    assert found.changes["normalise"]["newlines"] == 1
    assert found.changes["quality"] == {"c4_line_unended": 1}
    assert found.changes["scrub"] == {"EMAIL": 1}
    assert [orjson.loads(line) for line in task.file("jsonl").read_bytes().splitlines()] == [
        {"source": "sea", "id": "a", "text": "Write to <EMAIL> at once."},
        {"source": "sea", "id": "c", "text": "A long enough sentence ends here."},
    ]
    assert [sample["id"] for sample in found.samples["normalise"]] == ["b"]
    assert found.first_bad.endswith("sea.jsonl:5: row_bad_json in '{\"torn\\n'")


def test_bytes_of_a_step_are_those_of_the_step_before(task):
    steps = list(clean_shard(task).steps.values())
    assert all(before.left == after.entered for before, after in pairwise(steps))


def test_rows_are_found_by_the_numbers_beside_them(task, tmp_path):
    summary = clean_shard(task)
    shard = CleanShard(0, 0, summary.documents, task.file("jsonl"), task.file("npy"))
    assert shard.read(1).id == "c"
    first, second = (Piece(row, row + 1, shard.rows, shard.begin(row)) for row in (0, 1))
    for pieces, mask in (([first, second], [False, True]), ([second], [True]), ([Piece(0, 2, shard.rows, 0)], [0, 1])):
        np.save(tmp_path / "mask.npy", np.array(mask))
        assert list(texts_of(pieces, tmp_path / "mask.npy")) == ["A long enough sentence ends here."]
    with (tmp_path / "out").open("wb") as out:
        shard.copy(np.array([True, False]), out)
        shard.copy(np.array([True, True]), out)
    assert (tmp_path / "out").read_bytes() == b"".join(
        shard.rows.read_bytes().splitlines(keepends=True)[row] for row in (0, 0, 1)
    )


def test_a_finished_shard_is_not_cleaned_again_unless_the_rules_changed(task, monkeypatch):
    done = clean_shard(task)
    monkeypatch.setattr(cleaning, "read_shard", lambda *_, **__: pytest.fail("it was read again"))
    assert clean_shard(task) == done
    with pytest.raises(pytest.fail.Exception, match="read again"):
        clean_shard(task._replace(rules=Cleaning()))


def test_the_size_of_a_batch_changes_nothing(task, tmp_path, monkeypatch):
    whole = clean_shard(task)
    monkeypatch.setattr(cleaning, "BATCH_CHARACTERS", 1)
    monkeypatch.setattr(cleaning, "COMPILED_FROM_CHARACTERS", 60)
    again = task._replace(folder=tmp_path / "again")
    assert clean_shard(again) == whole
    for suffix in ("jsonl", "npy"):
        assert again.file(suffix).read_bytes() == task.file(suffix).read_bytes()


def test_what_is_kept_of_dropped_text_is_scrubbed_where_text_is(task):
    key = "AKIA" + "Q" * 16
    file = task.shard.source.path
    rows = [
        {"id": "e", "text": "write to starbuck@pequod.example, no end"},
        {"id": "f", "text": "x" * 985 + " " + key + " is cut in half"},
    ]
    file.write_bytes(b'{"text": "queequeg@pequod.example\n' + b"".join(orjson.dumps(row) + b"\n" for row in rows))
    found = clean_shard(task)
    samples = found.model_dump_json()
    assert [row["text"][-15:] for row in found.samples["quality"]] == ["<EMAIL>, no end", " <API_KEY> is c"]
    assert "@" not in samples
    assert "AKIA" not in samples
    assert "<EMAIL>" in found.first_bad
    assert "<EMAIL>" in read_only(task.shard, scrubbing=Scrubbing())[2]
    off = clean_shard(task._replace(rules=RULES.model_copy(update={"scrubbing": None})))
    assert [row["text"] for row in off.samples["quality"]] == [row["text"][:1000] for row in rows]
    assert "queequeg@pequod.example" in off.first_bad


@pytest.mark.parametrize("suffix", ["jsonl", "npy"])
def test_a_shard_whose_files_lost_their_end_is_cleaned_again(suffix, task):
    done, whole = clean_shard(task), task.file(suffix).read_bytes()
    for left in (whole[:-1], b""):
        task.file(suffix).write_bytes(left)
        assert clean_shard(task) == done
        assert task.file(suffix).read_bytes() == whole
    task.file(suffix).unlink()
    assert clean_shard(task) == done
    assert {file.name for file in task.folder.iterdir()} == {f"000000.{kind}" for kind in ("json", "jsonl", "npy")}


def test_rows_that_are_no_longer_there_are_an_error_and_not_an_endless_loop(task, tmp_path):
    summary = clean_shard(task)
    shard = CleanShard(0, 0, summary.documents, task.file("jsonl"), task.file("npy"))
    shard.rows.write_bytes(shard.rows.read_bytes()[:-1])
    with (tmp_path / "out").open("wb") as out, pytest.raises(DamagedArtifact, match="found fewer"):
        shard.copy(np.array([True, True]), out)


def test_many_short_documents_are_batches_too(task, monkeypatch):
    batches = []
    clean = cleaning._Work.clean
    monkeypatch.setattr(cleaning._Work, "clean", lambda work, rows: batches.append(rows) or clean(work, rows))
    monkeypatch.setattr(cleaning, "BATCH_CHARACTERS", 4 * cleaning.DOCUMENT_CHARACTERS)
    task.shard.source.path.write_bytes(b"".join(orjson.dumps({"id": f"{n}", "text": "x"}) + b"\n" for n in range(20)))
    clean_shard(task)
    assert max(len(rows.documents) for rows in batches) == 4


def test_reading_only_counts_rows_and_writes_nothing(task):
    source, steps, first_bad = read_only(task.shard)
    assert (source, steps["read"].entered.documents, steps["read"].left.documents) == ("sea", 5, 4)
    assert "row_bad_json" in first_bad
    assert not task.folder.exists()
