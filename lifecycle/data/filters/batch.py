"""The quality rules for many texts at once, compiled: what `QualityRules.judge` says of each, at 20 times the speed.

Importing this module imports numba. The counts of all texts are taken by `kernel`, the rules are asked of whole
columns, and only of what is dropped a sentence is written.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.filters import c4, c4_kernel, kernel, scanning
from lifecycle.data.filters.c4 import C4LineRules, C4Rules
from lifecycle.data.filters.characters import classes_of, pack
from lifecycle.data.filters.fineweb import FineWebRules
from lifecycle.data.filters.gopher import GopherRules
from lifecycle.data.filters.verdict import Drop, Family, Verdict

_LINE_REASONS = {
    c4_kernel.LONG_WORD: c4.LONG_WORD,
    c4_kernel.UNENDED: c4.UNENDED,
    c4_kernel.FEW_WORDS: c4.FEW_WORDS,
}


def judge_families(
    texts: Sequence[str],
    gopher: GopherRules | None,
    repetition: Family | None,
    rules: C4Rules | None,
    fineweb: FineWebRules | None,
) -> list[Verdict]:
    """What becomes of each text; the families are asked in this order."""
    rows = count(texts, gopher, fineweb, with_ngrams=repetition is not None)
    verdicts = [Verdict(None, text) for text in texts]
    judge_columns(gopher, rows[:, kernel.GOPHER : kernel.REPETITION], range(len(texts)), verdicts)
    judge_columns(repetition, rows[:, kernel.REPETITION : kernel.FINEWEB], range(len(texts)), verdicts)
    if rules is not None:
        alive = [index for index, verdict in enumerate(verdicts) if verdict.drop is None]
        for index, verdict in zip(alive, clean([texts[index] for index in alive], rules), strict=True):
            verdicts[index] = verdict
    changed = [
        index for index, verdict in enumerate(verdicts) if verdict.drop is None and verdict.text is not texts[index]
    ]
    if changed and fineweb is not None:
        rows[changed] = count([verdicts[index].text for index in changed], gopher, fineweb, with_ngrams=False)
    judge_columns(fineweb, rows[:, kernel.FINEWEB :], range(len(texts)), verdicts)
    return verdicts


def count(
    texts: Sequence[str], gopher: GopherRules | None, fineweb: FineWebRules | None, *, with_ngrams: bool
) -> NDArray[np.int64]:
    """The row of counts of each text."""
    words, pages = gopher or GopherRules(), fineweb or FineWebRules()
    packed = pack(texts)
    stop_words = [
        scanning.word_hash(np.frombuffer(word.encode(), np.uint8)) for word in dict.fromkeys(words.stop_words)
    ]
    rows = np.zeros((len(texts), kernel.COLUMNS), np.int64)
    kernel.count_documents(
        packed.buffer,
        packed.offsets,
        classes_of(words.symbols, words.bullets, pages.terminals),
        np.array(stop_words, np.uint64),
        pages.short_line_characters,
        pages.strip_lines,
        rows,
        with_ngrams,
    )
    return rows


def judge_columns(
    family: Family | None, columns: NDArray[np.int64], indices: Sequence[int], verdicts: list[Verdict]
) -> None:
    """Drop the texts that fail a rule of a family, each for the first."""
    if family is None:
        return
    counts = family.counts(*columns.T)
    for reason, failed in family.tests(counts):
        for index in np.flatnonzero(failed):
            verdict = verdicts[index]
            if verdict.drop is None:
                own: Any = family.counts(*columns[index].tolist())
                verdicts[index] = verdict._replace(drop=Drop(reason, family.detail(reason, verdict.text, own)))


def clean(texts: Sequence[str], rules: C4Rules) -> list[Verdict]:
    """What C4's rules leave of each text."""
    if rules.lines is None:
        return [rules.judge(text) for text in texts]
    classes = classes_of(None, "", rules.lines.sentence_ends + ".")
    return [_clean(text, rules, rules.lines, classes) for text in texts]


def _clean(text: str, rules: C4Rules, lines: C4LineRules, classes: NDArray[np.uint8]) -> Verdict:
    lower = text.lower()
    ask_all = any(telltale in lower for telltale in c4.TELLTALES)
    encoded = text.encode()
    buffer = np.frombuffer(encoded, np.uint8)
    found = np.empty((len(encoded) // 2 + 1, 3), np.int64)
    count, sentences, whole = c4_kernel.judge_lines(
        buffer, 0, len(encoded), classes, lines.only_ended, lines.min_words, lines.max_word_characters, ask_all, found
    )
    if whole:
        enough = sentences >= lines.min_sentences
        return Verdict(None, text) if enough else rules.joined(lines, text.splitlines(), Counter(), sentences)
    kept: list[str] = []
    removed: Counter[str] = Counter()
    for start, end, verdict in found[:count].tolist():
        if verdict == c4_kernel.KEPT:
            kept.append(encoded[start:end].decode())
        elif verdict == c4_kernel.ASK:
            before = len(kept)
            if drop := rules.judge_line(lines, encoded[start:end].decode(), kept, removed):
                return Verdict(drop, text)
            sentences += sum(c4.count_sentences(line, lines.sentence_ends) for line in kept[before:])
        else:
            removed[_LINE_REASONS[verdict]] += 1
    return rules.joined(lines, kept, removed, sentences)
