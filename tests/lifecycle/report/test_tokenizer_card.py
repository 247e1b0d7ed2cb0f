"""How a tokenizer fits, against its reference, and which of its tokens a model hardly learns."""

from typing import Any

import pytest
from rich.console import Console

from lifecycle.artifacts import Tokenizer
from lifecycle.data.tokenizer_fit import Fit
from lifecycle.report.data_card_page import html, markdown
from lifecycle.report.tokenizer_card import TokenizerCard, tokenizer_card, tokenizer_screen
from lifecycle.sealing import StageConfig


class TokenizerMadeUp(StageConfig):
    stage = "tokenizer"


def source(bytes_per_token: float, reference: float | None, changed: int = 0) -> dict[str, Any]:
    sample = {"documents": 10, "bytes": 1000, "tokens": round(1000 / bytes_per_token), "tokens_per_word": 1.5}
    found = {"bytes_per_token": bytes_per_token, "reference_bytes_per_token": reference}
    return {**sample, **found, "changed_documents": changed}


@pytest.fixture
def card(out_dir) -> TokenizerCard:
    fit = Fit(
        vocab_size=1024,
        learned_tokens=700,
        sources={"sea": source(4.0, 4.1), "web": source(2.0, 4.0, changed=1)},
        unused_in_sample=90,
        rare_in_sample=4,
        unreachable=2,
        partial_utf8=1,
        examples={"unused_in_sample": ["SolidGold", "<b>\x1b"], "unreachable": ["Ġthe"]},
    )
    (out_dir / "fit.json").write_text(fit.model_dump_json())
    ids = {"vocab_size": 1024, "bos_id": 0, "pad_id": 1, "stop_id": 2, "protocol_digest": "p"}
    return tokenizer_card(Tokenizer(path=out_dir, **ids).seal(TokenizerMadeUp()).path)


def test_bytes_a_token_are_weighed_by_the_size_of_the_samples(card):
    assert card.bytes_per_token == pytest.approx(2000 / 750)
    assert card.has_reference


def test_a_worse_fit_than_the_reference_glitch_tokens_and_changed_text_are_named(card):
    worse, changed, unreachable, unused = card.notices
    assert worse.text.startswith("web: 2.00 bytes a token, the reference 4.00")
    assert changed.text == "1 of 10 sampled documents of web come back changed from encoding and decoding."
    assert unreachable.text.startswith("2 tokens can never be reached")
    assert unused.text.startswith("13\u00a0% of the learned tokens (90)")


def test_the_screen_has_every_source_and_examples_that_command_nothing(card):
    console = Console(width=80, color_system=None, markup=False)
    with console.capture() as capture:
        console.print(tokenizer_screen(card))
    text = capture.get()
    assert "1,024 tokens, 700 learned, 2.67 bytes a token" in text
    assert "SolidGold  <b>␛" in text
    assert "\x1b" not in text


def test_it_is_a_section_of_the_data_card(card, make_card):
    whole = make_card()
    page = html(whole, card, name="run-1", command="x")
    assert "2.67 bytes a token" in page
    assert "&lt;b&gt;␛" in page
    assert "| web | 2.00 | 4.00 | 1.50 |" in markdown(whole, card, command="x")
