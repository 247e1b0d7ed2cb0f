"""What is held out is checked to the last row."""

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.artifacts import Suites
from lifecycle.errors import InputError
from lifecycle.stages.suites import SuiteFile, SuitesConfig, collect_suites, majority_answer_share


def config_of(path) -> SuitesConfig:
    return SuitesConfig(suites=(SuiteFile(name="contract", path=path),))


def test_items_are_stored_as_prompt_and_right_answer(write_rows, item, out_dir):
    rows = [item(1), item(2, "multi_arch", None, 'The record says {"multi_arch": null}.')]
    suites = collect_suites(config_of(write_rows("test.jsonl", rows)), out_dir=out_dir)
    stored = [orjson.loads(line) for line in suites.file_of("contract").read_bytes().splitlines()]
    assert [(row["id"], row["field"], row["value"]) for row in stored] == [
        ("item-1", "section", "libs"),
        ("item-2", "multi_arch", None),
    ]
    assert [[message["role"] for message in row["messages"]] for row in stored] == [["user"], ["user"]]
    assert suites.items == {"contract": 2}
    assert Suites.load(out_dir) == suites


def test_the_majority_answer_is_the_commonest_for_the_field_asked():
    asked = [("section", "libs")] * 3 + [("section", "perl")] + [("size", 1), ("size", 2)]
    rows = [{"field": field, "value": value} for field, value in asked]
    assert majority_answer_share(rows) == round((3 + 1) / 6, 6)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"section": "perl"}', "libs"),
        ('{"section": "libs", "extra": 1}', "libs"),
        ("libs", "libs"),
        ('{"section": 1}', True),
        ('{"section": ', "libs"),
    ],
)
def test_an_item_whose_answer_is_not_its_value_is_refused(write_rows, item, out_dir, answer, value):
    file = write_rows("test.jsonl", [item(1), item(2, "section", value, answer)])
    with pytest.raises(InputError, match=r"test.jsonl:2: row_answer_is_not_field_and_value"):
        collect_suites(config_of(file), out_dir=out_dir)


def test_one_bad_row_or_one_repeated_id_refuses_the_suite(write_rows, item, out_dir):
    for rows, reason in (([item(1), b"{"], "bad_json"), ([item(1), item(1)], "repeated_id")):
        with pytest.raises(InputError, match=rf"test.jsonl:2: row_{reason}"):
            collect_suites(config_of(write_rows("test.jsonl", rows)), out_dir=out_dir)
    assert not (out_dir / "manifest.json").exists()


def test_two_suites_of_one_name_and_a_name_that_leaves_the_folder_are_refused(tmp_path):
    suite = SuiteFile(name="contract", path=tmp_path)
    with pytest.raises(ValidationError, match="expected suites with different names"):
        SuitesConfig(suites=(suite, suite))
    with pytest.raises(ValidationError, match="pattern"):
        SuiteFile(name="../contract", path=tmp_path)
