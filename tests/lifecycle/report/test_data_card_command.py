"""`python -m lifecycle show corpus`, `show tokenizer` and `report corpus`."""

import json
from pathlib import Path

import pytest

from lifecycle import __main__ as program
from lifecycle.runs import Run
from lifecycle.store import Made, Store


@pytest.fixture
def store(make_corpus, tmp_path, monkeypatch) -> Store:
    """A run with a corpus, and after it one that promoted a release and made none."""
    monkeypatch.setenv("COLUMNS", "100")
    store = Store(tmp_path / "store")
    run = Run.start(store, flow="prepare-data", recipe="tiny", settings=[], name="20261123-060000-aaaaaa")
    run.add(Made(make_corpus(), False, 1.0))
    run.end("COMPLETED")
    Run.start(store, flow="promote", recipe="tiny", settings=[], name="20261123-070000-bbbbbb").end("COMPLETED")
    return store


def look(store, *arguments) -> int:
    return program.main([*arguments, "--store", str(store.root)])


def test_show_corpus_takes_the_newest_run_that_has_one(store, capsys):
    assert look(store, "show", "corpus") == 0
    text = capsys.readouterr().out
    assert "2,100 documents" in text
    assert "show corpus --dropped REASON" in text


def test_a_run_or_a_folder_can_be_named(store, capsys):
    assert look(store, "show", "corpus", "20261123-06") == 0
    [stage] = Run(store.root / "runs" / "20261123-060000-aaaaaa").stages
    assert look(store, "show", "corpus", stage.path, "--json") == 0
    assert '"digest": "' + stage.digest in capsys.readouterr().out


def test_dropped_prints_examples_and_without_a_reason_every_reason(store, capsys):
    assert look(store, "show", "corpus", "--dropped", "gopher_word_count") == 0
    assert "Aye." in capsys.readouterr().out
    assert look(store, "show", "corpus", "--dropped") == 0
    assert "duplicate_near" in capsys.readouterr().out
    assert look(store, "show", "corpus", "--dropped", "nonsense") == 2
    assert "There are: language_other (1,024)" in capsys.readouterr().err


def test_for_programs_it_is_json(store, capsys):
    assert look(store, "show", "corpus", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dropped"]["duplicate_exact"] == 319
    assert look(store, "show", "corpus", "--json", "--dropped", "contaminated") == 0
    assert json.loads(capsys.readouterr().out)["examples"][0]["id"] == "s9"


def test_report_corpus_writes_the_card_where_it_is_asked_for(store, capsys, tmp_path):
    assert look(store, "report", "corpus") == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.name == "data_card.html"
    assert look(store, "report", "corpus", "20261123-06", "--out", str(tmp_path / "card.md")) == 0
    assert (tmp_path / "card.md").read_text().startswith("# 2,100 documents")
    assert look(store, "show", "20261123-06", "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["runs"][0]["data_card"] == str(page)


def test_what_is_not_there_is_refused_with_what_to_do(store, capsys):
    assert look(store, "show", "tokenizer") == 2
    assert "expected a run with a tokenizer, found none in any run" in capsys.readouterr().err
    assert look(store, "show", "corpus", "20261123-07") == 2
    assert "in run 20261123-07: it ended before" in capsys.readouterr().err
    assert look(store, "show", "last", "corpus") == 2
    assert "`corpus` and a run" in capsys.readouterr().err
