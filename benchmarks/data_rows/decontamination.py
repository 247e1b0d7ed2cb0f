"""Decontamination against a Python set of 13-grams, on items long enough that both look for the same n-grams."""

import random
from collections.abc import Sequence
from pathlib import Path

import orjson

from benchmarks.data_rows import Row, compare
from lifecycle.data.decontaminate import NgramRule, found_in, index_items
from lifecycle.data.words import split_words

LENGTH = NgramRule().ngram_words


def rows(corpus_dir: Path) -> list[Row]:
    """One row; 1,000 items of 13 to 60 words, cut out of texts of the corpus itself."""
    draw = random.Random(1)
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file]
    items = []
    while len(items) < 1_000:
        words = split_words(draw.choice(texts))
        size = draw.randrange(LENGTH, 60)
        if len(words) >= size:
            start = draw.randrange(len(words) - size + 1)
            items.append(" ".join(words[start : start + size]))
    grams = index_items(items, NgramRule())
    flagged = set_of_grams_flags(items, texts)
    ours = sorted(found_in(grams, texts, compiled=True))
    print(f"decontamination: {len(flagged)} of {len(texts)} texts flagged by the set, {len(ours)} by us")
    if flagged != ours:
        raise SystemExit("expected the flags of the Python set, found others")
    return [
        compare(
            "decontamination | Python set of 13-grams",
            lambda: found_in(grams, texts, compiled=True),
            lambda: set_of_grams_flags(items, texts),
            megabytes=sum(len(text.encode()) for text in texts) / 1e6,
            at_least=6,
        )
    ]


def set_of_grams_flags(items: Sequence[str], texts: Sequence[str]) -> list[int]:
    """What everybody writes first. An n-gram in more than ten items is common wording, as in our rule."""
    counts: dict[tuple[str, ...], int] = {}
    for item in items:
        for gram in set(_grams(item)):
            counts[gram] = counts.get(gram, 0) + 1
    known = {gram for gram, count in counts.items() if count <= NgramRule().common_above(len(items))}
    return [number for number, text in enumerate(texts) if any(gram in known for gram in _grams(text))]


def _grams(text: str) -> list[tuple[str, ...]]:
    words = split_words(text)
    return list(zip(*(words[start:] for start in range(LENGTH)), strict=False))
