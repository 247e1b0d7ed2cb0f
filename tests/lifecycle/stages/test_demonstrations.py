"""Conversations we train on are whole, distinct and not what we score on."""

import orjson
import pytest

from lifecycle.errors import InputError
from lifecycle.stages.demonstrations import DemonstrationsConfig, curate_demonstrations


@pytest.fixture
def dev(write_rows, item):
    return write_rows("dev.jsonl", [item(500), item(501)])


def test_copies_and_held_out_items_are_dropped_and_counted(write_rows, item, suites, dev, out_dir):
    other_question = item(902, "size", 902)  # a held-out record, asked for another field
    other_question["messages"][0]["content"] = "Size?\n" + other_question["messages"][0]["content"]
    train = [
        item(1),
        item(2),
        item(1) | {"id": "copy"},
        item(1, answer='Sure: {"section": "libs"}') | {"id": "another answer"},
        item(901) | {"record": {"package": "unrelated"}},
        other_question,
        item(500),
    ]
    config = DemonstrationsConfig(train=write_rows("train.jsonl", train), dev=dev)
    demonstrations = curate_demonstrations(config, suites, out_dir=out_dir)
    assert demonstrations.dropped == {
        "train_duplicate": 1,
        "train_contaminated_prompt": 1,
        "train_contaminated_ngram": 1,
        "train_prompt_is_held_out_from_training": 1,
    }
    rows = [orjson.loads(line) for line in (out_dir / "train.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ["item-1", "item-2", "another answer"]
    assert set(rows[0]) == {"id", "source", "messages"}
    assert (demonstrations.train_rows, demonstrations.dev_rows) == (3, 2)
    assert demonstrations.suites_digest == suites.digest


def test_without_a_record_the_words_of_the_user_are_compared(write_rows, item, suites, dev, out_dir):
    def bare(number: int) -> dict:
        row = item(number)
        row["messages"][0]["content"] += "\nPlease answer."
        return {"id": row["id"], "messages": row["messages"]}

    config = DemonstrationsConfig(train=write_rows("train.jsonl", [bare(1), bare(903)]), dev=dev)
    assert curate_demonstrations(config, suites, out_dir=out_dir).dropped == {"train_contaminated_ngram": 1}


def test_one_bad_row_is_refused_naming_its_line_unless_allowed(write_rows, item, suites, dev, out_dir):
    broken = item(3)
    broken["messages"] = broken["messages"][::-1]
    train = write_rows("train.jsonl", [item(1), item(2), broken])
    with pytest.raises(InputError, match=r"train.jsonl:3: row_roles_do_not_alternate"):
        curate_demonstrations(DemonstrationsConfig(train=train, dev=dev), suites, out_dir=out_dir)
    tolerant = DemonstrationsConfig(train=train, dev=dev, max_bad_row_share=0.4)
    assert curate_demonstrations(tolerant, suites, out_dir=out_dir).dropped == {"train_row_roles_do_not_alternate": 1}


def test_training_on_the_suite_itself_is_refused(item, suites, dev, tmp_path, out_dir):
    with pytest.raises(InputError, match=r"test.jsonl:1: expected rows to keep, found 6 and dropped all"):
        curate_demonstrations(DemonstrationsConfig(train=tmp_path / "test.jsonl", dev=dev), suites, out_dir=out_dir)


def test_a_missing_file_is_refused(suites, dev, tmp_path, out_dir):
    with pytest.raises(InputError, match=r"expected a .jsonl file .* at .*nowhere"):
        curate_demonstrations(DemonstrationsConfig(train=tmp_path / "nowhere.jsonl", dev=dev), suites, out_dir=out_dir)
