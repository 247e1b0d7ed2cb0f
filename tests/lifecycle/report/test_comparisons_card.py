"""Comparisons as a person sees them: where pairs come from, and what to look at first."""

import io

import orjson
import pytest
from rich.console import Console

from lifecycle.artifacts import Suites
from lifecycle.data.jsonl import write_rows
from lifecycle.report import comparisons_card
from lifecycle.stages.comparisons import ComparisonsConfig, ComparisonSource, curate_comparisons


def pair(number: int) -> dict:
    sides = {"chosen": f"Great question! {number}", "rejected": f"no {number}"}
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
