"""Instructions are verified by comparing, counting, matching and parsing; what cannot be decided is not guessed."""

import pytest

from lifecycle.evaluation import matching
from lifecycle.evaluation.checks import fault_of_checks, parse_checks, verdicts
from lifecycle.evaluation.matching import Unchecked

PERSON = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}


@pytest.mark.parametrize(
    ("check", "kept", "broken"),
    [
        ({"check": "exact", "texts": ["Paris", "paris, France"]}, " Paris\n", "paris"),
        ({"check": "exact", "texts": ["Paris"], "ignore_case": True}, "PARIS", "Paris."),
        ({"check": "contains", "texts": ["tea", "milk"]}, "Milk, then TEA", "tea alone"),
        ({"check": "avoids", "texts": ["sugar"]}, "tea", "Sugary"),
        ({"check": "opens", "texts": ["Dear", "Hello"]}, "hello there", "Oh dear"),
        ({"check": "closes", "texts": ["P.S. bye"]}, "x P.S. bye ", "P.S. bye now"),
        ({"check": "matches", "pattern": r"\d{4}-\d{2}"}, "2026-11", "in 2026-11"),
        ({"check": "json"}, '```json\n{"a": 1}\n```', 'Here: {"a": 1}'),
        ({"check": "json"}, "[1, 2]", '{"a": 1, "a": 2}'),
        ({"check": "json"}, "3", "NaN"),
        ({"check": "json", "schema": PERSON}, '{"age": 3}', '{"age": -1}'),
        ({"check": "json", "schema": PERSON}, '{"age": 3, "x": 0}', '{"age": true}'),
        ({"check": "json", "schema": PERSON, "anywhere": True}, 'She: {"age": 3}.', '{"age": 3} {"age": 3}'),
        ({"check": "count", "of": "words", "at_most": 3}, "one two three", "one two three four"),
        ({"check": "count", "of": "characters", "at_least": 2, "at_most": 3}, " abc ", "abcd"),
        ({"check": "count", "of": "lines", "at_least": 2, "at_most": 2}, "a\n\nb\n", "a"),
        ({"check": "count", "of": "paragraphs", "at_least": 2, "at_most": 2}, "a\nb\n\nc", "a\nb"),
        ({"check": "count", "of": "sentences", "at_least": 2, "at_most": 2}, "One. Two?", "Only 3.5 of them"),
        ({"check": "count", "of": "bullets", "at_least": 2}, "* a\n - b", "* a"),
        ({"check": "case", "case": "lower"}, "all low: é", "One"),
        ({"check": "refuses"}, "I'm sorry, but I can't help with that.", "Sure, here is how."),
        ({"check": "complies"}, "Sure: use kill -9.", "I cannot help you kill a process."),
    ],
)
def test_a_check_tells_answers_that_keep_it_from_those_that_do_not(check, kept, broken):
    assert fault_of_checks([check]) is None
    assert verdicts(parse_checks([check]), kept) == [True]
    assert verdicts(parse_checks([check]), broken) == [False]


@pytest.mark.parametrize(
    "checks",
    [
        [],
        None,
        {"check": "json"},
        [{"check": "runs"}],
        [{"check": "exact"}],
        [{"check": "exact", "texts": []}],
        [{"check": "matches", "pattern": "("}],
        [{"check": "count", "of": "sheep"}],
        [{"check": "json", "schema": {"type": "nonsense"}}],
        [{"check": "json", "schema": {"$ref": "https://example.com/schema.json"}}],
        [{"check": "json", "schema": {"pattern": "("}}],
        [{"check": "json", "schema": {"patternProperties": {"(a+)+$": {}}}}],
    ],
)
def test_what_is_no_check_is_refused_when_it_is_collected(checks):
    assert fault_of_checks(checks) == "row_bad_checks"


@pytest.mark.parametrize(
    "check",
    [
        {"check": "matches", "pattern": r"(a|aa)+b"},
        {"check": "json", "schema": {"type": "string", "pattern": r"^(a|aa)+$"}},
    ],
)
def test_a_pattern_that_takes_for_ever_is_not_decided(check, monkeypatch):
    monkeypatch.setattr(matching, "MATCH_SECONDS", 0.05)
    answer = "a" * 64 + "!"
    with pytest.raises(Unchecked, match="check_timed_out"):
        verdicts(parse_checks([check]), answer if check["check"] == "matches" else f'"{answer}"')


def test_an_answer_nested_too_deep_is_no_json():
    assert verdicts(parse_checks([{"check": "json"}]), "[" * 100_000) == [False]
