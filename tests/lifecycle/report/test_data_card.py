"""The numbers of a data card are those of the sealed report, and add up whatever the corpus."""

import random

import orjson
import pytest

from lifecycle.data.documents import Source
from lifecycle.data.normalise import Normalisation
from lifecycle.data.scrub import Scrubbing
from lifecycle.report.data_card import card_of, headline, left, summary, together
from lifecycle.stages.corpus import CorpusConfig, build_corpus


def test_a_card_counts_what_was_read_what_stayed_and_why_the_rest_went(make_card):
    card = make_card()
    assert (card.read.documents, card.kept.documents) == (4000, 2100)
    assert headline(card) == "2,100 documents, 2.1\u00a0MB from 2 sources"
    assert "52.5\u00a0% stayed" in summary(card)
    found = {one.reason: one for one in card.dropped}
    assert next(iter(found)) == "language_other", "the commonest reason comes first"
    assert (found["gopher_word_count"].documents, found["gopher_word_count"].step) == (226, "quality")
    assert found["gopher_word_count"].by_source == {"sea": 26, "web": 200}
    assert found["contaminated"].by_source == {"sea": 2}, "a source that lost nothing is not named"
    assert sum(one.documents for one in card.dropped) == card.read.documents - card.kept.documents


def test_what_a_mixture_leaves_out_is_no_loss_of_its_source(make_card):
    sea, web = make_card().sources
    assert (sea.lost_share, web.lost_share) == (pytest.approx(0.1), pytest.approx(1 - 1250 / 3000))
    assert web.clean.documents - web.kept == 50
    assert web.first_reason == "language_other"


def test_steps_that_did_not_run_are_off_and_silent_ones_are_left_out_of_the_funnel(make_card):
    card = make_card()
    assert card.off == ["repeated_ids", "caps"]
    names = [step.name for step in card.steps]
    assert "scrub" not in names
    assert names[0] == "read"
    assert [left(step).documents for step in card.steps] == [3970, 2896, 2669, 2350, 2152, 2150, 2100]


def test_personal_data_of_a_dropped_document_is_not_shown_even_where_nothing_scrubbed_it(make_card):
    sample = next(one for one in make_card().dropped if one.reason == "duplicate_near").samples[0]
    assert sample.text == "Call me Ishmael. Write to <EMAIL> about it."


def test_histograms_with_other_edges_are_not_added(make_card):
    sea, web = make_card().report.lengths.values()
    assert together([sea, web]).kept == [0, 60, 600, 1000, 380, 60]
    assert together([sea, web.model_copy(update={"edges": [edge + 1 for edge in web.edges]})]) is None


def words(seed: int, count: int = 60) -> str:
    """Made-up prose that every quality rule lets through."""
    draw = random.Random(seed)
    chosen = [draw.choice(("whale", "ship", "captain", "letter")) + str(draw.randrange(999)) for _ in range(count)]
    return f"The {' '.join(chosen)} have to be with that."


def test_the_card_of_a_real_corpus_adds_up_step_by_step(held_out, tmp_path, out_dir):
    rows = [{"id": str(n), "text": words(n)} for n in range(40)]
    rows += [{"id": "copy", "text": words(3)}, {"id": "short", "text": "Aye."}, {"id": "nul", "text": "a\0b"}]
    rows += [{"id": "mail", "text": words(99) + " Write to ahab@pequod.com."}]
    (tmp_path / "sea.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    source = Source(name="sea", path=tmp_path / "sea.jsonl", licence="CC0-1.0")
    steps = {"normalisation": Normalisation(), "scrubbing": Scrubbing(), "max_bad_row_share": 0.5}
    corpus = build_corpus(CorpusConfig(sources=(source,), **steps), held_out[0], out_dir=out_dir)
    card = card_of(corpus.path)
    assert {one.reason: one.documents for one in card.dropped} == corpus.sources["sea"].dropped
    assert card.read.documents == 44 == card.kept.documents + sum(one.documents for one in card.dropped)
    assert left(card.report.steps[-1]) == card.kept
    assert card.report.scrubbed == {"sea": {"EMAIL": 1}}
    assert sum(card.report.lengths["sea"].kept) == card.kept.documents
    assert {one.reason for one in card.samples} == set(corpus.sources["sea"].dropped)
    assert card.sources[0].file == "sea.jsonl"
