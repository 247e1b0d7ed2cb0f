"""The same conversations from every kind of file, and what is said of rows that are none."""

import datasets
import orjson
import pytest

from lifecycle.data.conversation_sources import BadRow, Conversation, ConversationSource, Reading
from lifecycle.data.documents import Source
from lifecycle.data.sources.places import SavedDataset
from lifecycle.data.sources.shards import read_shard, shards_of
from lifecycle.errors import InputError

ROWS = [
    {"id": f"r{n}", "messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]}
    for n in range(5)
]


def source(path, **more) -> ConversationSource:
    return ConversationSource(name="made-up", path=path, licence="CC0-1.0", **more)


def lines(path, rows) -> object:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


@pytest.fixture
def saved(tmp_path):
    datasets.disable_progress_bars()
    found = datasets.Dataset.from_list(ROWS)
    found.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": found, "test": found.select([0])}).save_to_disk(str(tmp_path / "two"))
    found.to_parquet(str(tmp_path / "rows.parquet"))
    lines(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def test_the_same_conversations_come_from_every_kind_of_file(saved):
    places = [
        saved / "rows.jsonl",
        saved / "rows.parquet",
        SavedDataset(path=saved / "one"),
        SavedDataset(path=saved / "two", split="train"),
    ]
    for place in places:
        found = list(Reading(source(place)))
        assert [(one.id, one.messages) for one in found] == [(row["id"], row["messages"]) for row in ROWS]
    assert str(Reading(source(places[1])).shape) == "messages in 'messages'"


def test_a_saved_data_set_is_a_source_of_a_corpus_too(tmp_path):
    datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).save_to_disk(str(tmp_path / "texts"))
    corpus = Source(name="s", path=SavedDataset(path=tmp_path / "texts"), licence="CC0-1.0")
    assert [found.text for shard in shards_of(corpus) for found in read_shard(shard)] == ["a", "b"]


def test_a_saved_data_set_that_names_files_elsewhere_or_no_split_is_refused(saved):
    with pytest.raises(InputError, match=r"one of the splits \['train', 'test'\], found None"):
        list(Reading(source(SavedDataset(path=saved / "two"))))
    (saved / "one" / "state.json").write_text('{"_data_files": [{"filename": "../two/x.arrow"}]}')
    with pytest.raises(InputError, match="expected names of Arrow files in this folder"):
        list(Reading(source(SavedDataset(path=saved / "one"))))


def test_rows_without_an_id_are_named_by_position_and_bad_ones_say_where_they_are(tmp_path):
    bare = {"messages": ROWS[0]["messages"]}
    file = lines(tmp_path / "rows.jsonl", [bare, bare | {"id": 7}, {"messages": []}, b"{", bare | {"id": "a\0"}])
    found = list(Reading(source(file)))
    assert [one.id for one in found if isinstance(one, Conversation)] == ["1", "7"]
    bad = [(one.where, one.fault) for one in found if isinstance(one, BadRow)]
    assert bad == [(f"{file}:3", "row_no_messages"), (f"{file}:4", "row_bad_json"), (f"{file}:5", "row_bad_id")]


def test_rows_of_no_shape_we_know_are_refused_with_their_keys(tmp_path):
    file = lines(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(InputError, match=r"found keys \['prompt', 'completion'\] in the first 1"):
        Reading(source(file))
    with pytest.raises(InputError, match="expected rows of the shape 'alpaca'"):
        Reading(source(lines(tmp_path / "messages.jsonl", ROWS), format="alpaca"))
