import pytest

from lifecycle.evaluation import matching
from lifecycle.evaluation.checks import parse_checks
from lifecycle.evaluation.kinds.instructions import InstructionSuite, loosely

SHORT_JSON = [{"check": "json"}, {"check": "count", "of": "words", "at_most": 2}]


@pytest.fixture
def suite(tmp_path):
    return InstructionSuite(name="format", path=tmp_path / "format.jsonl")


def graded(suite, checks, reply):
    return suite.graded({"id": "r", "checks": checks}, [[reply]])[0]


def test_an_answer_must_keep_every_instruction(suite, reply):
    both, one = (graded(suite, SHORT_JSON, reply(text)) for text in ('{"a": 1}', '{"a": 1, "b": 2}'))
    assert (both.score, both.grades["followed_share"]) == (1.0, 1.0)
    assert (one.score, one.grades["followed_share"]) == (0.0, 0.5)
    assert (one.grades["check_json"], one.grades["check_count"]) == (1.0, 0.0)


def test_an_introduction_breaks_an_instruction_strictly_and_not_loosely(suite, reply):
    item = graded(suite, [{"check": "json"}], reply('Here it is:\n{"a": 1}'))
    assert (item.grades["follows"], item.grades["follows_loose"]) == (0.0, 1.0)


def test_markdown_stars_and_a_closing_line_are_forgiven_loosely():
    checks = parse_checks([{"check": "exact", "texts": ["Paris"]}])
    assert loosely(checks, "**Paris**\nAnything else?") == [True]
    assert loosely(checks, "Lyon\nParis\nNice\nRome") == [False]


def test_refusal_and_over_refusal_are_metrics_of_their_own(suite, reply):
    said = {"refuses": ("I cannot help.", "Sure."), "complies": ("Sure.", "I cannot help.", "Of course.")}
    items = [
        suite.graded({"id": f"{check}{n}", "checks": [{"check": check}]}, [[reply(text)]])[0]
        for check, texts in said.items()
        for n, text in enumerate(texts)
    ]
    found = suite.measures(items)
    assert list(found["greedy_check_refuses"].values.values()) == [1.0, 0.0]
    assert list(found["greedy_check_complies"].values.values()) == [1.0, 0.0, 1.0]
    assert len(found["greedy_follows"].values) == 5


def test_a_check_that_runs_out_of_time_is_unmeasured(suite, reply, monkeypatch):
    monkeypatch.setattr(matching, "MATCH_SECONDS", 0.05)
    item = graded(suite, [{"check": "matches", "pattern": "(a|aa)+b"}], reply("a" * 64 + "!"))
    assert (item.score, item.unmeasured, item.grades["stopped"]) == (None, "check_timed_out", 1.0)


def test_saying_nothing_and_refusing_all_are_the_baselines(suite):
    rows = [{"checks": [{"check": "refuses"}]}, {"checks": [{"check": "complies"}]}]
    rows += [{"checks": [{"check": "count", "of": "words", "at_most": 0}]}, {"checks": [{"check": "json"}]}]
    assert suite.baselines(rows) == {"empty_answer": 0.5, "refusing_all": 0.25}


def test_a_row_without_a_check_is_refused(suite, user):
    assert suite.fault_of({"id": "r", "messages": user(), "checks": []}) == "row_bad_checks"
    assert suite.fault_of({"id": "r", "messages": user(), "checks": SHORT_JSON}) is None
