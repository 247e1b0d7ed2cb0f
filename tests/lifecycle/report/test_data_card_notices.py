"""A reader is told of losses, of wishes that were not met, and of what nobody looked for."""

import pytest

from lifecycle.report.data_card_notices import notices


def said(card) -> list[str]:
    return [notice.text for notice in notices(card)]


def starting(card, start: str) -> str:
    return next((text for text in said(card) if text.startswith(start)), "")


def test_a_source_that_lost_more_than_half_is_named_with_its_first_reason(make_card):
    found = notices(make_card())
    assert found[0].tone == "bad"
    why = "1,024 of them language_other (it is in another language than those asked for)"
    assert found[0].text == f"web lost 58\u00a0% of its documents (1,750), {why}."
    assert not any("sea lost" in notice.text for notice in found)


def test_one_rule_that_takes_a_quarter_of_a_source_is_doubted(make_card, told):
    sea = next(step for step in told["steps"] if step["name"] == "quality")["sources"]["sea"]
    sea["dropped"]["gopher_word_count"]["documents"] = 300
    assert starting(make_card(told), "One rule dropped 30\u00a0% of sea").endswith("It may be wrong for this text.")


def test_every_shortfall_of_the_mixture_is_repeated_word_for_word(make_card):
    assert "asked for 3,000,000 bytes, found 2,930,000: web has no more text" in said(make_card())


def test_a_source_repeated_beyond_four_epochs_is_named(make_card, told):
    told["mixture"]["sources"]["sea"]["epochs"] = 6.5
    assert starting(make_card(told), "sea is repeated 6.5 times")


@pytest.mark.parametrize(
    ("step", "start"),
    [
        ("scrub", "Scrubbing is off: personal data was not looked for"),
        ("language", "Language identification is off"),
        ("quality", "The quality rules are off"),
        ("exact_duplicates", "Exact deduplication is off"),
        ("near_duplicates", "Near-deduplication is off"),
    ],
)
def test_a_step_that_is_off_is_never_taken_for_one_that_found_nothing(make_card, told, step, start):
    told["steps"] = [one for one in told["steps"] if one["name"] != step]
    assert starting(make_card(told), start)


def test_held_out_items_that_were_found_or_cannot_be_looked_for_are_counted(make_card):
    card = make_card()
    assert starting(card, "Evaluation items occurred in the raw text: 2 of contract.")
    assert starting(card, "3 of 1,500 evaluation items have no run of words of their own")


def test_rows_that_were_no_documents_and_a_small_validation_split_are_named(make_card):
    card = make_card()
    assert starting(card, "26 of 3,000 rows of web were no documents")
    assert starting(card, "web gave 10 of 30 validation documents asked for")
    assert not starting(card, "sea gave")


def test_one_large_cluster_is_a_template(make_card, told):
    told["near_duplicates"]["cluster_sizes"]["400"] = 1
    assert "400 documents" in starting(make_card(told), "The largest cluster")


def test_bytes_that_went_while_documents_stayed_are_named(make_card, told):
    for step in told["steps"][1:]:
        for tally in (step["sources"]["sea"]["entered"], step["sources"]["sea"]["left"]):
            tally["bytes"] = 400 * tally["documents"]
    text = "sea lost 64\u00a0% of its bytes, though 90\u00a0% of its documents stayed"
    assert starting(make_card(told), text)


@pytest.mark.parametrize(
    ("licence", "fault"),
    [
        ("unknown", "says nothing"),
        ("CC-BY-NC-4.0", "forbids commercial use"),
        ("CC-BY-ND-4.0", "forbids derived works"),
    ],
)
def test_a_licence_that_allows_little_is_named(make_card, licence, fault):
    assert fault in starting(make_card(sea=licence), "The licence of sea")


def test_a_corpus_about_which_all_is_known_has_nothing_to_look_at(make_card, told):
    whole = {"documents": 1000, "bytes": 1000}
    sources = {name: {"entered": whole, "left": whole} for name in ("sea", "web")}
    told["steps"] = [{"name": step["name"], "sources": sources} for step in told["steps"]]
    told["near_duplicates"]["cluster_sizes"] = {}
    told["decontamination"] |= {"items_without_a_distinctive_ngram": 0, "items_found": {}}
    told["mixture"]["shortfalls"] = []
    told["validation"]["web"]["documents"] = 30
    assert said(make_card(told)) == []
