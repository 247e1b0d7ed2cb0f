"""A corpus on the terminal: it fits 80 columns, and no document can command the terminal."""

import pytest
from rich.console import Console

from lifecycle.errors import InputError
from lifecycle.report import data_card_screens as screens


def printed(shown, width=80) -> str:
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_the_funnel_the_sources_and_what_to_look_at_fit_eighty_columns(make_card):
    text = printed(screens.corpus_screen(make_card()))
    assert "pass the quality rules" in text
    assert "−226 gopher_word_count  −1 c4_lorem_ipsum" in text
    assert "2,669   66.7" in text
    assert "off: repeated ids, caps" in text
    assert "• web lost 58" in text
    assert "60.0" in text
    assert "…" not in text, "nothing is cut"


def test_examples_have_their_source_their_id_what_was_measured_and_their_text(make_card):
    text = printed(screens.examples_screen(make_card(), "gopher_word_count"))
    assert "226 documents (sea 26, web 200)" in text
    assert "https://arxiv.org/abs/2112.11446" in text
    assert "sea s1  4 words, not 15 to 100000\n  Aye." in text
    assert "2 of 226 were kept as examples" in text


def test_an_unknown_reason_lists_those_there_are_with_their_counts(make_card):
    with pytest.raises(InputError, match=r"found 'gopher'.*language_other \(1,024\), duplicate_exact \(319\)"):
        screens.examples_screen(make_card(), "gopher")


def test_what_a_document_holds_never_reaches_the_terminal_as_a_command(make_card, told):
    evil = "\x1b[2J\x1b]0;owned\x07\u202etxt.exe\u2066\r[red]x[/red]" + "y" * 1_000_000
    sample = {"source": "sea", "id": evil[:60], "reason": "gopher_word_count", "detail": evil[:60], "text": evil}
    told["mixture"]["shortfalls"] = [evil]
    card = make_card(told, [sample], sea=evil[:80])
    text = printed(screens.examples_screen(card, "gopher_word_count")) + printed(screens.corpus_screen(card))
    assert not set(text) & set("\x1b\x07\r\u202e\u2066")
    assert "␛[2J" in text
    assert "[red]x[/red]" in text, "nor is it markup"
    assert "more characters)" in text
    assert len(text) < 10_000


def test_for_programs_there_are_the_report_the_notices_and_the_examples(make_card):
    card = make_card()
    data = screens.corpus_data(card)
    assert data["dropped"]["duplicate_near"] == 198
    assert data["off"] == ["repeated_ids", "caps"]
    assert data["notices"][0]["tone"] == "bad"
    assert data["report"]["near_duplicates"]["cluster_sizes"]["2"] == 70
    one = screens.corpus_data(card, "contaminated")
    assert (one["step"], one["documents"], one["sources"]) == ("decontamination", 2, {"sea": 2})
    assert one["examples"][0]["id"] == "s9"
