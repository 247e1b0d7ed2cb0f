"""Quality rules of Gopher, C4 and FineWeb at the papers' thresholds, from texts in memory to what is left of each."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from benchmarks.data_rows import Row, compare
from benchmarks.datatrove_rules import SplitOnWhiteSpace, datatrove_decides, our_rules, their_filters, we_decide
from lifecycle.data.filters import QualityRules

MEGABYTES = 3


def rows(corpus_dir: Path) -> list[Row]:
    """All families in a chain; and each by itself on all texts, for a chain hides the last behind the first."""
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file]
    texts = texts[: _documents_of(texts, MEGABYTES * 10**6)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    cold, warm = _first_call(), _first_call(cached=True)
    print(f"quality filters: first call with nothing compiled {cold:.1f} s, from the cache {warm:.1f} s")
    found = []
    rules, filters = our_rules(), their_filters(SplitOnWhiteSpace())
    chains = [("quality filters, all", rules, filters)]
    for place, family in enumerate(("gopher", "repetition", "c4", "fineweb")):
        off = dict.fromkeys(("gopher", "repetition", "c4", "fineweb"))
        chains.append(
            (
                f"quality filters, {family}",
                QualityRules(**off | {family: getattr(rules, family)}),
                filters[place : place + 1],
            )
        )
    for name, ours, theirs in chains:
        mine, other = we_decide(ours, texts), datatrove_decides(theirs, texts)
        differ = sum(a != b for a, b in zip(mine, other, strict=True))
        kept = sum(kept for kept, _ in other)
        print(f"{name}: {len(texts)} documents, {kept} kept by datatrove, {differ} decisions differ")
        assert differ == 0
        found.append(
            compare(
                f"{name} | datatrove, whitespace words",
                lambda ours=ours: ours.judge_all(texts, compiled=True),
                lambda theirs=theirs: datatrove_decides(theirs, texts),
                megabytes=megabytes,
                at_least=12 if ours is rules else 0,
            )
        )
    return found


def _documents_of(texts: Sequence[str], size: int) -> int:
    for number, text in enumerate(texts):
        size -= len(text)
        if size < 0:
            return number
    return len(texts)


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
