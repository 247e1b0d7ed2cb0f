"""What is held out is checked to the last row."""

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.artifacts import Suites
from lifecycle.errors import InputError
from lifecycle.evaluation.kinds import KINDS, sealed_suite
from lifecycle.evaluation.kinds.instructions import InstructionSuite
from lifecycle.evaluation.kinds.multiple_choice import MultipleChoiceSuite
from lifecycle.evaluation.kinds.pairwise import PairwiseSuite, RewardModel
from lifecycle.stages.suites import SuiteFile, SuitesConfig, collect_suites


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
    assert suites.baselines == {"contract.majority_answer": 1.0}
    assert Suites.load(out_dir) == suites


def test_a_suite_is_graded_by_what_it_said_when_it_was_collected(write_rows, user, out_dir):
    rows = [{"id": "q", "messages": user(), "choices": ["a", "b"], "answer": 0, "subject": "maps", "text": 7}]
    quiz = MultipleChoiceSuite(
        name="quiz", path=write_rows("quiz.jsonl", rows), ask_as="text", slice_field="subject", cluster_field="text"
    )
    suites = collect_suites(SuitesConfig(suites=(quiz,)), out_dir=out_dir)
    assert sealed_suite(suites, "quiz") == quiz.model_copy(update={"path": suites.file_of("quiz")})
    (row,) = map(orjson.loads, suites.file_of("quiz").read_bytes().splitlines())
    assert (row["slice"], row["cluster"]) == ("maps", "7")
    assert str(out_dir) not in orjson.dumps(suites.facts()).decode()


def test_the_judge_is_sealed_with_the_suite(write_rows, user, tmp_path, out_dir):
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "config.json").write_text("{}")
    rows = write_rows("duel.jsonl", [{"id": "d", "messages": user(), "reference": "Rome"}])
    duel = PairwiseSuite(name="duel", path=rows, judge=RewardModel(path=judge))
    suites = collect_suites(SuitesConfig(suites=(duel,)), out_dir=out_dir)
    assert sealed_suite(suites, "duel").judge.path == out_dir / "duel.judge"
    (out_dir / "duel.judge" / "config.json").write_text("{ }")
    with pytest.raises(Exception, match="changed after sealing"):
        Suites.load(out_dir)


def test_suites_sealed_before_there_were_kinds_hold_contract_items(tmp_path):
    old = Suites(path=tmp_path, items={"contract": 1})
    assert sealed_suite(old, "contract") == SuiteFile(name="contract", path=tmp_path / "contract.jsonl")


def test_every_kind_names_itself():
    assert all(suite.model_fields["kind"].default == kind for kind, suite in KINDS.items())


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


def test_a_check_that_does_not_exist_refuses_the_suite(write_rows, user, out_dir):
    rows = write_rows("f.jsonl", [{"id": "f", "messages": user(), "checks": [{"check": "python", "code": "1"}]}])
    with pytest.raises(InputError, match=r"f.jsonl:1: row_bad_checks"):
        collect_suites(SuitesConfig(suites=(InstructionSuite(name="f", path=rows),)), out_dir=out_dir)


def test_one_bad_row_or_one_repeated_id_refuses_the_suite(write_rows, item, out_dir):
    for rows, reason in (([item(1), b"{"], "bad_json"), ([item(1), item(1)], "repeated_id")):
        with pytest.raises(InputError, match=rf"test.jsonl:2: row_{reason}"):
            collect_suites(config_of(write_rows("test.jsonl", rows)), out_dir=out_dir)
    assert not (out_dir / "manifest.json").exists()


def test_two_suites_of_one_name_and_a_name_that_leaves_the_folder_are_refused(tmp_path):
    suite = SuiteFile(name="contract", path=tmp_path)
    with pytest.raises(ValidationError, match="expected suites with different names"):
        SuitesConfig(suites=(suite, suite))
    with pytest.raises(ValidationError, match="expected suites with different names"):
        SuitesConfig(suites=(SuiteFile(name="bits_per_byte", path=tmp_path),))
    with pytest.raises(ValidationError, match="pattern"):
        SuiteFile(name="../contract", path=tmp_path)
