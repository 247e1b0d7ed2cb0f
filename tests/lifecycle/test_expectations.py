"""A recipe's numbers are held to its ranges: what lies outside is named, what has no such number is refused."""

import math

import pytest
from pydantic import ValidationError

from lifecycle import recipes
from lifecycle.artifacts import Checkpoint, Corpus, Demonstrations, SourceCount, TokenShards
from lifecycle.errors import ConfigError
from lifecycle.expectations import Expected, held, numbers_of

COUNT = SourceCount(licence="CC0", read=20, kept=15, kept_bytes=900, train_bytes=800)
SIZES = {"parameters": 9, "max_seq_len": 8, "protocol_digest": "p", "steps": 5, "findings": {"spike": 2}}


@pytest.fixture
def corpus(tmp_path):
    sources = {"a": COUNT, "b": COUNT}
    return Corpus(path=tmp_path, train_documents=27, validation_documents=3, sources=sources, suites_digest="s")


def test_the_shares_of_a_corpus_and_of_what_is_made_from_it(corpus, tmp_path):
    found = numbers_of(corpus, [])
    assert found["kept_share"] == 0.75
    assert found["validation_share"] == 0.1
    assert found["train_bytes"] == 1600
    rows = {"max_seq_len": 8, "vocab_size": 9, "rows": 50, "validation_rows": 5, "tokens": 400, "dtype": "uint16"}
    shards = TokenShards(path=tmp_path, tokens_by_source={}, protocol_digest="p", **rows)
    assert numbers_of(shards, [corpus])["bytes_per_token"] == 4.0
    base = Checkpoint(path=tmp_path, role="base", tokens_seen=600, final_loss=3.0, **SIZES)
    assert numbers_of(base, [shards])["epochs"] == 1.5


def test_rows_that_training_left_out_are_a_share_of_the_rows_it_was_given(tmp_path):
    given = Demonstrations(path=tmp_path, train_rows=40, dev_rows=10, dropped={"too long": 50}, suites_digest="s")
    assert numbers_of(given, [])["kept_share"] == 0.5
    tuned = Checkpoint(
        path=tmp_path, role="sft", tokens_seen=6, final_loss=1.0, supervised_share=0.2, dropped={"cut": 10}, **SIZES
    )
    found = numbers_of(tuned, [given])
    assert (found["dropped_share"], found["supervised_share"], found["findings"]) == (0.25, 0.2, 2)
    assert "epochs" not in found, "of conversations no share can be said"


def test_a_number_outside_its_range_is_a_line_with_what_was_expected_and_found(corpus):
    kept = Expected(stage="corpus", number="kept_share", at_least=0.9, at_most=1)
    read = Expected(stage="corpus", number="read", at_least=40, at_most=40)
    other = Expected(stage="shards", number="tokens", at_least=0, at_most=1)
    lines = held([kept, read, other], "corpus", corpus)
    assert [line.holds for line in lines] == [False, True]
    assert str(lines[0]) == "corpus kept_share: expected 0.9 to 1, found 0.75"
    assert not lines[0]._replace(found=math.nan).holds
    assert str(lines[1]._replace(found=6_066_788)) == "corpus read: expected 40 to 40, found 6,066,788"


def test_a_number_that_the_artifact_does_not_have_is_refused_with_those_it_has(corpus):
    with pytest.raises(ConfigError, match=r"found kept_part among the recipe's `expected`. It has: kept_share, read"):
        held([Expected(stage="corpus", number="kept_part", at_least=0, at_most=1)], "corpus", corpus)


def test_a_range_that_nothing_can_lie_in_is_refused():
    with pytest.raises(ValidationError, match="expected at_least <= at_most for sft final_loss"):
        Expected(stage="sft", number="final_loss", at_least=1, at_most=0.5)


def test_the_tiny_recipe_expects_something_of_every_stage_that_makes_or_uses_data():
    recipe = recipes.load("tiny")
    assert {one.stage for one in recipe.expected} == {*recipe.stages} - {"gate", "release"}
