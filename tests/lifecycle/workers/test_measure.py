"""What a diagnosis asks, in this process, on a small model: every way of asking, and every reason for none."""

import pytest

from lifecycle.chat.render import load_renderer
from lifecycle.diagnosis.measurement import MeasureJob
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.evaluation.kinds.suite import Generate
from lifecycle.workers import measure as worker
from lifecycle.workers.job import Recorder


@pytest.fixture
def measured(base, sft, held_out, demonstrations, tmp_path):
    suites, corpus = held_out

    def measured(**changed):
        folder = tmp_path / "measuring"
        (folder / "log").mkdir(parents=True, exist_ok=True)
        known = {
            "out_dir": folder,
            "scratch_dir": folder,
            "items": 12,
            "max_new_tokens": 6,
            "temperature": 1.0,
            "precision": "fp32",
            "candidate": sft.path,
            "sft": sft.path,
            "base": base.path,
            "suites": (sealed_suite(suites, "contract"),),
            "demonstrations": demonstrations.path,
            "validation_file": corpus.validation_file,
            "max_seq_len": 64,
            "threads": 1,
        }
        return worker.measure(MeasureJob.model_validate({**known, **changed}), Recorder(folder / "log"))

    return measured


def test_everything_there_is_something_for_is_asked(measured):
    found = measured()
    assert set(found.scores) == {"as_asked", "one_shot", "doubled_bos"}
    assert all(len(scores) == 12 for scores in found.scores.values())
    assert [len(seed) for seed in found.seeds] == [12, 12]
    assert found.faults["with_record"] == "no item has a record that its question does not hold already"
    assert found.faults["no_system"] == "no item has a system prompt"
    assert found.served.hits == found.served.of == 12, "transformers renders our own template as we do"
    assert len(found.stop_ranks) == 6, "one a held-out demonstration"
    assert all(1 <= rank <= 400 for rank in found.stop_ranks)
    assert sum(loss.rows for loss in found.losses.values()) == 6
    assert 0 <= found.continuations.hits <= found.continuations.of


def test_the_same_questions_give_the_same_answers(measured):
    assert measured() == measured()


def test_what_the_run_has_not_is_not_asked(measured):
    found = measured(suites=(), demonstrations=None, base=None, sft=None)
    assert (found.scores, found.stop_ranks, found.losses, found.continuations) == ({}, [], {}, None)
    assert found.served is None
    assert found.faults["as_asked"] == "no suite whose items are turns to be answered"


def test_a_doubled_bos_is_one_more_token_before_the_same_prompt(sft, user):
    renderer = load_renderer(sft.path)
    ask = Generate(user())
    once, twice = Encoder(renderer).ask(ask)[0], worker.DoubledBos(renderer).ask(ask)[0]
    assert twice == [renderer.protocol.bos_id, *once]


def test_a_record_is_given_only_to_a_question_that_does_not_hold_it(user):
    closed = {"messages": user("Which section has p1?"), "record": {"section": "libs"}}
    assert worker.with_record(closed)[-1]["content"] == "section: libs\nWhich section has p1?"
    assert worker.with_record({**closed, "messages": user("section: libs. Which section?")}) is None
    assert worker.with_record({"messages": user()}) is None


def test_a_system_prompt_can_be_left_out_only_where_there_is_one(user):
    system = {"role": "system", "content": "Be brief."}
    assert worker.without_system({"messages": [system, *user()]}) == user()
    assert worker.without_system({"messages": user()}) is None


def test_an_example_is_of_the_question_s_own_kind_and_the_shortest(user):
    def shown(field, text):
        return {"field": field, "messages": [*user(text), {"role": "assistant", "content": "yes"}]}

    rows = [shown("a", "a long one"), shown("a", "short"), shown("b", "x")]
    assert worker.behind_an_example({"field": "a", "messages": user("?")}, rows)[0]["content"] == "short"
    assert worker.behind_an_example({"field": "c", "messages": user("?")}, rows)[0]["content"] == "x"
    assert worker.behind_an_example({"field": "c", "messages": user("?")}, []) is None
