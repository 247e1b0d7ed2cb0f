"""Quality rules of Gopher, C4 and FineWeb at the papers' thresholds, from texts in memory to what is left of each."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from benchmarks.data_rows import Row, compare
from lifecycle.data.filters import C4LineRules, C4Rules, FineWebRules, GopherRules, QualityRules, RepetitionRules
from lifecycle.data.filters.repetition import TABLE_A1

MEGABYTES = 3
TERMINALS = "".join(sorted(TERMINAL_PUNCTUATION))
# datatrove's characters and readings, so that both sides can be asked for equal decisions.
OURS = QualityRules(
    gopher=GopherRules(symbols="".join(sorted(PUNCTUATION_SET)), bullets="•-"),
    repetition=RepetitionRules(min_top_ngram_times=1, max_duplicate_ngram_character_share=TABLE_A1),
    c4=C4Rules(drop_curly_brackets=True, lines=C4LineRules(sentence_ends=TERMINALS)),
    fineweb=FineWebRules(
        min_lines=0,
        strip_lines=False,
        terminals=TERMINALS,
        max_repeated_line_character_share=0.01,
        max_newlines_per_word=0.3,
    ),
)


class SplitOnWhiteSpace(WhitespaceTokenizer):
    """datatrove's sentences, and words without spaCy, which would take nine tenths of its time."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


WORDS = SplitOnWhiteSpace()
THEIRS = (
    GopherQualityFilter(language=WORDS),
    GopherRepetitionFilter(language=WORDS),
    C4QualityFilter(language=WORDS),
    FineWebQualityFilter(language=WORDS),
)


def rows(corpus_dir: Path) -> list[Row]:
    """All families in a chain; and each by itself on all texts, for a chain hides the last behind the first."""
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file]
    texts = texts[: _documents_of(texts, MEGABYTES * 10**6)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    cold, warm = _first_call(), _first_call(cached=True)
    print(f"quality filters: first call with nothing compiled {cold:.1f} s, from the cache {warm:.1f} s")
    found = []
    chains = [("quality filters, all", OURS, THEIRS)]
    for place, family in enumerate(("gopher", "repetition", "c4", "fineweb")):
        off = dict.fromkeys(("gopher", "repetition", "c4", "fineweb"))
        chains.append(
            (
                f"quality filters, {family}",
                QualityRules(**off | {family: getattr(OURS, family)}),
                THEIRS[place : place + 1],
            )
        )
    for name, ours, theirs in chains:
        mine = [(verdict.drop is None, verdict.text) for verdict in ours.judge_all(texts, compiled=True)]
        other = _datatrove(texts, theirs)
        differ = sum(a[0] != b[0] or (a[0] and a != b) for a, b in zip(mine, other, strict=True))
        kept = sum(kept for kept, _ in other)
        print(f"{name}: {len(texts)} documents, {kept} kept by datatrove, {differ} decisions differ")
        assert differ == 0
        found.append(
            compare(
                f"{name} | datatrove, whitespace words",
                lambda ours=ours: ours.judge_all(texts, compiled=True),
                lambda theirs=theirs: _datatrove(texts, theirs),
                megabytes=megabytes,
                at_least=12 if ours is OURS else 0,
            )
        )
    return found


def _documents_of(texts: Sequence[str], size: int) -> int:
    for number, text in enumerate(texts):
        size -= len(text)
        if size < 0:
            return number
    return len(texts)


def _datatrove(texts: Sequence[str], filters: Sequence[object]) -> list[tuple[bool, str]]:
    found = []
    for text in texts:
        document = Document(text=text, id="")
        kept = all(_kept(step.filter(document)) for step in filters)
        found.append((kept, document.text))
    return found


def _kept(result: "bool | tuple[bool, str]") -> bool:
    return result[0] if isinstance(result, tuple) else result


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _first_call(cached: bool = False) -> float:
    """Seconds of a new process until its first answer, import of numba included."""
    if not cached:
        _FOLDERS.append(tempfile.TemporaryDirectory())
    program = (
        f"import os; os.environ['NUMBA_CACHE_DIR'] = {_FOLDERS[-1].name!r}\n"
        "from lifecycle.data.filters import *\n"
        "QualityRules(c4=C4Rules(lines=C4LineRules())).judge_all(['a b'], compiled=True)"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start
