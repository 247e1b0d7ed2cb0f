"""What is shown was sealed, byte for byte, and by code that writes it as this code reads it."""

import pytest

from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.report.data_card import card_of


def test_a_changed_report_is_not_shown(make_corpus):
    corpus = make_corpus()
    file = corpus.path / "report.json"
    file.write_text(file.read_text().replace("4096", "4097"))
    with pytest.raises(DamagedArtifact, match=r"sealed file report\.json, found other bytes"):
        card_of(corpus.path)


def test_a_corpus_sealed_by_other_code_is_refused_with_what_to_do(make_corpus, monkeypatch):
    monkeypatch.setattr("lifecycle.report.data_card.corpus_report.FILE", "dropped.jsonl")
    with pytest.raises(InputError, match="Rerun the stage to get a card"):
        card_of(make_corpus().path)


def test_another_artifact_is_no_corpus(make_corpus, held_out):
    with pytest.raises(InputError, match="expected a Corpus, found a Suites"):
        card_of(held_out[0].path)
