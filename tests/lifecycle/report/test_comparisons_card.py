"""Comparisons as a person sees them: where pairs come from, and what to look at first."""

import html
import io

import orjson
import pytest
from rich.console import Console

from lifecycle.artifacts import Suites
from lifecycle.data.jsonl import write_rows
from lifecycle.errors import DamagedArtifact
from lifecycle.report import comparisons_card, comparisons_card_page
from lifecycle.stages.comparisons import ComparisonsConfig, ComparisonSource, curate_comparisons

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m {{ 7 * 7 }}"


def pair(number: int, chosen: str = "Great question!") -> dict:
    sides = {"chosen": f"{chosen} {number}", "rejected": f"no {number}"}
    turns = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    return {"id": f"p{number}", "prompt": [{"role": "user", "content": f"what is {number}?"}], **turns}


@pytest.fixture
def made(held_out: tuple[Suites, object], tmp_path):
    for name, numbers in (("own", range(30)), ("more", range(100, 130))):
        write_rows(tmp_path / f"{name}.jsonl", map(pair, numbers))
    (out := tmp_path / "out").mkdir()
    config = ComparisonsConfig(
        train=tmp_path / "own.jsonl",
        licence="ours",
        sources=(ComparisonSource(name="more", path=tmp_path / "more.jsonl"),),
    )
    return curate_comparisons(config, held_out[0], out_dir=out)


def test_the_card_names_sources_signals_and_what_is_not_known(made):
    card = comparisons_card.card_of(made.path)
    said = [notice.text for notice in card.notices]
    assert [text.partition(":")[0] for text in said[:2]] == ["length_is_the_signal", "phrase_is_the_signal"]
    assert any("licence of more" in text for text in said)
    assert said[-1].startswith("No verifier could decide a pair")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparisons_card.screen(card))
    shown = console.export_text()
    assert "train and heldout" in shown
    assert "'great question!'" in shown


def test_the_same_for_programs(made):
    data = orjson.loads(orjson.dumps(comparisons_card.as_data(comparisons_card.card_of(made.path))))
    assert data["digest"] == made.digest
    assert data["report"]["sources"]["more"]["kinds"] == {"pair": 30}


def test_the_page_has_the_funnel_the_signals_and_pairs_side_by_side(made):
    page = comparisons_card_page.page(comparisons_card.card_of(made.path), name="run-1", command="again")
    for said in (
        f"{made.train_pairs + made.heldout_pairs:,} (100.0%)",
        f"− {made.heldout_pairs} held out to watch",
        "the longer answer wins",
        "“great question!” only in chosen",
        "length_is_the_signal",
        "No pair says in which order its answers were shown.",
        "whether labels are right is not known",
        "what is 0?",
        "chosen · 17 characters",
        made.digest,
    ):
        assert said in page, said


def test_what_an_answer_holds_is_text_on_the_page(held_out: tuple[Suites, object], tmp_path):
    write_rows(tmp_path / "hostile.jsonl", [pair(n, HOSTILE) | {"id": f"{HOSTILE} {n}"} for n in range(20)])
    (out := tmp_path / "out").mkdir()
    config = ComparisonsConfig(train=tmp_path / "hostile.jsonl", licence=HOSTILE)
    made = curate_comparisons(config, held_out[0], out_dir=out)
    page = comparisons_card_page.page(comparisons_card.card_of(made.path), name=HOSTILE, command="again")
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩␛[31m {{ 7 * 7 }} 0" in page
    assert "default-src 'none'" in html.unescape(page)


def test_pairs_changed_after_they_were_sealed_are_not_shown(made):
    (made.path / "train.jsonl").open("ab").write(b"\n")
    with pytest.raises(DamagedArtifact, match=r"expected the sealed file train.jsonl, found other bytes"):
        comparisons_card_page.page(comparisons_card.card_of(made.path), name="x", command="again")
