"""The compiled rules and the plain ones say the same of everything, whatever the batch."""

import random

import pytest

from lifecycle.data import filters
from lifecycle.data.filters import C4LineRules, C4Rules, FineWebRules, GopherRules, QualityRules, RepetitionRules, batch
from lifecycle.data.filters.repetition import TABLE_A1

CHARACTERS = " \n\n\n.#-•ab the…be—\"'\r\t\x85\u2028é世𝔘A.ΣK*?!。\x1f\x1c[1]{"
PIECES = (
    "the ",
    "be ",
    "and ",
    " ...",
    " a b c d",
    "\n",
    "\n\n",
    "- x",
    "\r\n",
    "word. ",
    "J. F. ",
    "[edit]",
    "lorem ipsum",
    "javascript is. ",
    "use cookies. ",
    "Some thing here. ",
    "Some thing here. Again it is.\n",
)


@pytest.fixture(scope="module")
def texts():
    """Strange texts of up to 80 pieces, each with something that one of the rules treats in its own way."""
    draw = random.Random(1)
    found = ["", "\n", "\n\n", " ", "a\n", "\na", "a", "...", "…\n\n…"]
    for _ in range(4_000):
        pieces = (draw.choice(PIECES if draw.random() < 0.5 else CHARACTERS) for _ in range(draw.randrange(80)))
        found.append("".join(pieces))
    return found


def test_every_count_of_every_text(texts):
    gopher, repetition = GopherRules(), RepetitionRules(max_duplicate_ngram_character_share=TABLE_A1)
    for fineweb in (FineWebRules(), FineWebRules(strip_lines=False, short_line_characters=5)):
        rows = batch.count(texts, gopher, fineweb, with_ngrams=True).tolist()
        for text, row in zip(texts, rows, strict=True):
            assert [*gopher.count(text), *repetition.count(text), *fineweb.count(text)] == row, text


@pytest.mark.parametrize(
    "rules",
    [
        QualityRules(gopher=GopherRules(min_words=5, min_stop_words=1)),
        QualityRules(
            gopher=None,
            c4=C4Rules(drop_curly_brackets=True, lines=C4LineRules(min_sentences=2)),
            fineweb=FineWebRules(min_lines=2, max_repeated_line_character_share=0.01, max_newlines_per_word=0.3),
        ),
        QualityRules(gopher=None, repetition=None, c4=C4Rules(lines=C4LineRules(min_sentences=0)), fineweb=None),
    ],
)
def test_every_verdict_with_its_reason_its_numbers_and_its_text(texts, rules, monkeypatch):
    plain = rules.judge_all(texts, compiled=False)
    assert rules.judge_all(texts, compiled=True) == plain
    monkeypatch.setattr(filters, "BATCH_CHARACTERS", 1_000)
    assert rules.judge_all(texts, compiled=True) == plain
    assert 0 < sum(verdict.drop is None for verdict in plain) < len(texts)


def test_a_small_input_does_not_wait_for_a_compiler(monkeypatch):
    monkeypatch.setattr(batch, "judge_families", lambda *_: pytest.fail("compiled"))
    assert len(QualityRules().judge_all(["a", "b"])) == 2
