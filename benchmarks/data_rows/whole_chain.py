"""The corpus stage from JSON Lines to a sealed corpus: its speed on one core, and where the time goes.

A step's limit is the least that any code in this language must do for it: parse the rows, look at every byte, split the
text into words and hash them, serialise, copy. A step that costs four times its limit has that much left to win.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

from benchmarks.data import PACK, write_corpus
from benchmarks.data_rows import Row
from lifecycle.artifacts import Corpus, Suites
from lifecycle.data import cleaning, duplicates
from lifecycle.data.catalogue import Catalogue
from lifecycle.data.documents import Source
from lifecycle.data.filters import QualityRules
from lifecycle.data.language import LanguageModel, LanguageRule
from lifecycle.data.minhash import blocks, hashed_words
from lifecycle.data.normalise import Normalisation
from lifecycle.data.scrub import Scrubbing
from lifecycle.stages import corpus
from lifecycle.stages.corpus import CorpusConfig, build_corpus
from lifecycle.stages.suites import SuiteFile, SuitesConfig, collect_suites

REPEATS = 3
ROUNDS = 8  # times the shipped text: 49 MB
AIM = 10.0  # MB/s on one core, before tokenization
EVERYTHING = {"normalisation": Normalisation(), "language": LanguageRule(min_score=0.2), "scrubbing": Scrubbing()}
# What is switched on, and how many of the shipped documents (870 bytes in the mean) make one.
CHAINS: dict[str, tuple[dict[str, Any], int]] = {
    "steps on by default": ({}, 1),
    "every step": (EVERYTHING, 1),
    "every step, long documents": (EVERYTHING, 4),
}
STEPS: list[tuple[str, Any, str]] = [
    ("read and parse", cleaning, "read_shard"),
    ("normalise", cleaning, "normalise"),
    ("language", LanguageModel, "identify"),
    ("quality", QualityRules, "judge_all"),
    ("scrub", cleaning, "scrub"),
    ("rows and digests", cleaning._Work, "_finish"),
    ("repeated ids and copies", duplicates, "first_copies"),
    ("near duplicates", duplicates, "near_duplicates"),
    ("decontamination", corpus, "search_shard"),
    ("write", Catalogue, "write"),
    ("seal", Corpus, "seal"),
]


def rows(_corpus_dir: Path) -> list[Row]:
    """A row a chain. There is no peer: the ratio is to the aim. The input is large enough for compiled loops."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, suites = write_corpus(folder, ROUNDS), held_out(folder)
        found = []
        for chain, (settings, together) in CHAINS.items():
            path = join_documents(short, folder / "input.jsonl", together)
            megabytes = path.stat().st_size / 1e6
            config = CorpusConfig(sources=(Source(name="rows", path=path, licence="mixed"),), **settings)
            make = partial(build_corpus, config, suites)
            seconds = []
            for _ in range(1 + REPEATS):  # the first loads the compiled loops
                with _folder(folder) as out_dir:
                    seconds.append(_seconds(partial(make, out_dir=out_dir)))
            with _folder(folder) as out_dir, Clock().on(STEPS) as clock:
                make(out_dir=out_dir)
            speeds = sorted(megabytes / taken for taken in seconds[1:])
            print(f"whole chain, {chain}: {megabytes:.0f} MB in {statistics.median(seconds[1:]):.1f} s of CPU")
            _print_steps(clock, limits(path, folder), megabytes)
            found.append(
                Row(
                    name=f"whole chain, {chain} | the aim",
                    ours=statistics.median(speeds),
                    peer=AIM,
                    ratio=statistics.median(speeds) / AIM,
                    unit="MB/s of CPU time",
                    n=REPEATS,
                    spread=f"{speeds[0] / AIM:.1f}-{speeds[-1] / AIM:.1f}",
                    at_least=1,
                )
            )
        cold, warm = (first_corpus(short, Path(name) / "numba") for _ in range(2))
        print(
            f"whole chain, every step, in a new process: {cold:.1f} s of CPU with nothing compiled, {warm:.1f} s after"
        )
    return found


class Clock:
    """CPU seconds by step; a step inside another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running, self._since = ["other"], time.process_time()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time counted, and that of what it yields."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._enter(name)
            try:
                result = function(*args, **kwargs)
            finally:
                self._leave()
            return self._each(name, result) if isinstance(result, Iterator) else result

        return call

    @contextmanager
    def on(self, steps: list[tuple[str, Any, str]]) -> Iterator["Clock"]:
        """Every step timed, as long as the block runs. Asking for the time takes some, so the sum is not the speed."""
        with ExitStack() as patches:
            for step, owner, name in steps:
                patches.enter_context(patch.object(owner, name, self.timed(step, getattr(owner, name))))
            self._since = time.process_time()
            yield self
            self._charge()

    def _each(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._enter(name)
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._leave()
            yield item

    def _enter(self, name: str) -> None:
        self._charge()
        self._running.append(name)

    def _leave(self) -> None:
        self._charge()
        self._running.pop()

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now


def held_out(folder: Path) -> Suites:
    """The items of the recipe `tiny`."""
    (folder / "suites").mkdir()
    suite = SuiteFile(name="contract", path=PACK.parent / "contract" / "test.jsonl.gz")
    return collect_suites(SuitesConfig(suites=(suite,)), out_dir=folder / "suites")


def join_documents(rows: Path, into: Path, together: int) -> Path:
    """The documents of a file, so many in one."""
    documents = [orjson.loads(line) for line in rows.open("rb")]
    with into.open("wb") as file:
        for first in range(0, len(documents), together):
            text = "\n\n".join(document["text"] for document in documents[first : first + together])
            row = {"id": documents[first]["id"], "text": text}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return into


def limits(path: Path, folder: Path) -> dict[str, float]:
    """The least seconds of each step, on the whole input."""
    lines = path.read_bytes().splitlines(keepends=True)
    documents = [orjson.loads(line) for line in lines]
    texts = [document["text"] for document in documents]
    raw, nothing = [text.encode() for text in texts], bytes(range(256))
    words = _seconds(lambda: [hashed_words(block) for block in blocks(texts)])
    every_byte = _seconds(lambda: [text.encode().translate(nothing) for text in texts])
    copied = _seconds(lambda: shutil.copyfile(path, folder / "copy"))
    return {
        "read and parse": _seconds(lambda: [orjson.loads(line) for line in path.open("rb")]),
        "normalise": every_byte,
        "language": words,
        "quality": words,
        "scrub": every_byte,
        "rows and digests": _seconds(lambda: ([*map(orjson.dumps, documents)], [blake2b(t).digest() for t in raw])),
        "near duplicates": words,
        "decontamination": words,
        "write": copied,
        "seal": _seconds(lambda: sha256(b"".join(lines)).digest()),
    }


def first_corpus(path: Path, cache: Path) -> float:
    """CPU seconds of a process that makes one corpus and ends, with compiled code kept in `cache`."""
    program = (
        "import sys, tempfile, time; from pathlib import Path; from benchmarks.data_rows import whole_chain as w\n"
        "with tempfile.TemporaryDirectory() as name:\n"
        "    folder = Path(name); suites = w.held_out(folder); out = folder / 'out'; out.mkdir()\n"
        "    source = w.Source(name='rows', path=sys.argv[1], licence='mixed')\n"
        "    w.build_corpus(w.CorpusConfig(sources=(source,), **w.EVERYTHING), suites, out_dir=out)\n"
        "print(time.process_time())"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program, str(path)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@contextmanager
def _folder(inside: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=inside) as name:
        yield Path(name)


def _print_steps(clock: Clock, least: dict[str, float], megabytes: float) -> None:
    """MB/s of the whole input, so that the numbers add up: what a step drops, the next ones do not see."""
    total = sum(clock.seconds.values())
    for name in (*(step for step, _, _ in STEPS), "other"):
        if taken := clock.seconds[name]:
            limit = f"{taken / least[name]:>6.1f} times its limit" if name in least else ""
            print(f"  {name:<24}{taken:>7.2f} s{taken / total:>6.0%}{megabytes / taken:>8.0f} MB/s{limit}")
