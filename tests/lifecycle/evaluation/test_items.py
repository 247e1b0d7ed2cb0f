import pyarrow
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.items import ITEMS, SCHEMA, Item, read_items, write_items


def test_what_was_written_is_read_back_and_gives_the_same_bytes(tmp_path, answer, document):
    items = [answer(0), answer(0, mode="sampled", correct=None), document(0, 123.5), document(1, None)]
    assert write_items(tmp_path, items) == 4
    first = (tmp_path / ITEMS).read_bytes()
    assert list(read_items(tmp_path)) == items
    write_items(tmp_path, list(read_items(tmp_path)))
    assert (tmp_path / ITEMS).read_bytes() == first
    assert "seconds" not in SCHEMA.names


def test_other_readers_see_plain_columns(tmp_path, answer):
    write_items(tmp_path, [answer(0, correct=False)])
    (row,) = parquet.read_table(tmp_path / ITEMS).to_pylist()
    assert (row["suite"], row["id"], row["mode"], row["score"]) == ("contract", "item-0", "greedy", 0.0)
    assert dict(row["grades"]) == {"correct": 0.0, "terse": 1.0, "exact": 0.0, "stopped": 1.0}


def test_a_record_has_a_score_or_a_reason(answer):
    for score, unmeasured in ((None, None), (1.0, "truncated")):
        with pytest.raises(ValidationError, match="expected a score or a reason"):
            Item.model_validate({**answer(0).model_dump(), "score": score, "unmeasured": unmeasured})


@pytest.mark.parametrize("damage", ["no parquet", "other columns", "wrong record"])
def test_a_file_that_holds_no_records_is_refused(tmp_path, answer, damage):
    if damage == "no parquet":
        (tmp_path / ITEMS).write_text('{"kind": "answer"}\n')
    elif damage == "other columns":
        parquet.write_table(pyarrow.table({"suite": ["x"]}), tmp_path / ITEMS)
    else:
        row = {**answer(0).model_dump(), "grades": [], "mode": "guessed"}
        parquet.write_table(pyarrow.Table.from_pylist([row], schema=SCHEMA), tmp_path / ITEMS)
    with pytest.raises(DamagedArtifact, match=r"items.parquet.*expected"):
        list(read_items(tmp_path))
