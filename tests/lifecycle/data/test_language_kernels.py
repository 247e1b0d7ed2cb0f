"""Our evaluation of a fastText classifier against fastText's own, text by text."""

import importlib
import random
from pathlib import Path

import pytest

import lifecycle
from lifecycle.data.jsonl import read_lines
from lifecycle.data.language import LanguageModel, LanguageRule

PACK = Path(lifecycle.__path__[0]) / "recipes" / "pack" / "corpus"
TOLERANCE = 1e-5  # of a probability: fastText sums in float32, one n-gram after the other
PLANES = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x6FF), (0x900, 0x980), (0x3040, 0x30FF)]
PLANES += [(0x4E00, 0x5200), (0xAC00, 0xAE00), (0x1F600, 0x1F64F)]


def fasttext_says(model: Path, texts: list[str]) -> list[tuple[str, float]]:
    """The reference: one label and its probability, of at most 1."""
    reference = importlib.import_module("fasttext").load_model(str(model))
    found = [reference.predict(text.replace("\n", " ")) for text in texts]
    return [
        (labels[0].removeprefix("__label__"), min(1.0, float(scores[0]))) if labels else ("und", 0.0)
        for labels, scores in found
    ]


def check(rule: LanguageRule, texts: list[str]) -> None:
    model = LanguageModel(rule)
    for text, ours, (code, score) in zip(texts, model.identify(texts), fasttext_says(model.path, texts), strict=True):
        assert ours.score == pytest.approx(score, abs=TOLERANCE), (text[:80], ours, code)
        assert ours.code == code, (text[:80], ours, code, score)


def strange(draw: random.Random) -> str:
    """A line of words from any script, with what fastText reads in ways of its own."""
    words = ["</s>", "__label__en", "__label__", "<", ">", "\0", "de", "the", "\v\f", "x" * 30, "é" * 13, ""]
    low, high = draw.choice(PLANES)
    lengths = [draw.randint(1, 20) for _ in range(draw.randrange(60))]
    words += ["".join(chr(draw.randint(low, high)) for _ in range(length)) for length in lengths]
    draw.shuffle(words)
    return draw.choice(" \n\t").join(words[: draw.randrange(len(words) + 1)])


def test_every_shipped_document_gets_the_label_and_the_probability_that_fasttext_gives():
    texts = [line.row["text"] for path in sorted(PACK.glob("*.jsonl.gz")) for line in read_lines(path) if line.row]
    assert len(texts) > 5_000
    check(LanguageRule(), texts)


def test_strange_text_gets_what_fasttext_gives():
    draw = random.Random(0)
    check(LanguageRule(), ["", " ", "</s>", "__label__en", *(strange(draw) for _ in range(2_000))])


def test_an_answer_does_not_depend_on_the_texts_before():
    draw = random.Random(1)
    texts = [strange(draw) for _ in range(200)]
    model = LanguageModel(LanguageRule())
    together = list(model.identify(texts * 4))
    assert together[:200] == together[200:400] == together[600:]
    assert together[:200] == [next(model.identify([text])) for text in texts]
