"""What is done to documents one by one: normalise, language, quality, scrub. A shard in, clean rows and counts out.

A shard's work is a function of the shard and the rules, writes its files by rename and its summary last: it may run
anywhere and twice, and what a killed stage has finished is not done again.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lifecycle.data.clean_shards import NUMBERS
from lifecycle.data.corpus_report import SourceStep, StepName, Tally
from lifecycle.data.dedup import digests
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.filters import COMPILED_FROM_CHARACTERS, Drop, QualityRules, Verdict
from lifecycle.data.funnel import Samples, Steps, passed, tally
from lifecycle.data.histograms import LENGTH_EDGES, NO_SCORE, SCORE_BINS, count_lengths, count_scores, score_bin
from lifecycle.data.jsonl import Row
from lifecycle.data.language import LanguageRule, loaded_model
from lifecycle.data.normalise import Normalisation, normalise
from lifecycle.data.order import hash64
from lifecycle.data.scrub import Scrubbing, scrub
from lifecycle.data.sources.files import stored_bytes
from lifecycle.data.sources.shards import SourceShard, read_shard
from lifecycle.sealing import write_atomically

BATCH_CHARACTERS = 4_000_000
DOCUMENT_CHARACTERS = 100  # what one costs in memory beside its text: a million short ones are a batch too
ONE_ROW = Tally(documents=1)


class Cleaning(BaseModel):
    """The steps, in the order in which they are taken; None switches one off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    normalisation: Normalisation | None = None
    language: LanguageRule | None = None
    quality: QualityRules | None = None
    scrubbing: Scrubbing | None = None


class ShardTask(NamedTuple):
    """Clean this shard; its files are `<folder>/<number>.*`."""

    number: int
    shard: SourceShard
    rules: Cleaning
    seed: int
    samples_per_reason: int
    folder: Path
    compiled: bool = False  # already known to pay; nothing depends on it but the time

    def file(self, suffix: str) -> Path:
        return self.folder / f"{self.number:06}.{suffix}"


class ShardSummary(BaseModel):
    """What became of a shard, in numbers and a few samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    made_from: str
    source: str
    documents: int
    row_bytes: int
    steps: Steps
    samples: dict[StepName, list[Row]]
    first_bad: str
    dropped_lengths: list[int]
    dropped_scores: list[int]
    languages: dict[str, Tally]
    changes: dict[StepName, dict[str, int]]


def clean_shard(task: ShardTask) -> ShardSummary:
    """Write the clean rows of a shard, and their NUMBERS beside them; what it gave up is in the summary."""
    made_from = repr((task.shard, task.rules, task.seed, task.samples_per_reason))
    if (done := _finished(task, made_from)) is not None:
        return done
    task.folder.mkdir(parents=True, exist_ok=True)
    work = _Work(task)
    with _whole(task.file("jsonl")) as file:
        for rows in work.read():
            file.writelines(work.clean(rows))
    with _whole(task.file("npy")) as file:
        np.save(file, np.concatenate([np.empty(0, NUMBERS), *work.numbers]))
    found = work.summary(made_from)
    write_atomically(task.file("json"), found.model_dump_json().encode())
    return found


def read_only(shard: SourceShard, *, scrubbing: Scrubbing | None = None) -> tuple[str, Steps, str]:
    """The source of a shard, how many of its rows are documents, and the first that is none; nothing is written."""
    rules = Cleaning(scrubbing=scrubbing)
    work = _Work(ShardTask(0, shard, rules, seed=0, samples_per_reason=0, folder=Path(tempfile.gettempdir())))
    for _ in work.read():
        pass
    return shard.source.name, work.steps, work.first_bad


def is_much(sources: Iterable[Source]) -> bool:
    """Whether compiled loops pay for all shards, however small each is. What is not on this machine tells nothing."""
    paths = [getattr(source.path, "path", source.path) for source in sources]
    return sum(stored_bytes(path) for path in paths if isinstance(path, Path)) >= COMPILED_FROM_CHARACTERS


def _finished(task: ShardTask, made_from: str) -> ShardSummary | None:
    """The summary of a shard that is done; after a loss of power its files may be shorter than they were written."""
    try:
        found = ShardSummary.model_validate_json(task.file("json").read_bytes())
        sizes = task.file("jsonl").stat().st_size, len(np.load(task.file("npy"), mmap_mode="r"))
    except (OSError, EOFError, ValueError):
        return None
    return found if (*sizes, made_from) == (found.row_bytes, found.documents, found.made_from) else None


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there once all of it is written; another attempt at the same task may be at work elsewhere."""
    part = path.with_suffix(f".{uuid4().hex}.part")
    with part.open("wb") as file:
        yield file
    part.replace(path)


class _Rows(NamedTuple):
    """Documents on their way, each with its size in bytes and the bin of its language score."""

    documents: list[Document]
    sizes: list[int]
    scores: list[int]

    @property
    def texts(self) -> list[str]:
        return [document.text for document in self.documents]


class _Work:
    """A shard in the making."""

    def __init__(self, task: ShardTask) -> None:
        self.task, self.source = task, task.shard.source
        self.steps: Steps = {}
        self.samples: dict[StepName, Samples] = {}
        self.first_bad = ""
        self.dropped_lengths = np.zeros(len(LENGTH_EDGES) - 1, np.int64)
        self.dropped_scores = np.zeros(SCORE_BINS, np.int64)
        self.languages: dict[str, Tally] = {}
        self.changes: dict[StepName, Counter[str]] = {}
        self.numbers: list[NDArray[np.void]] = []
        self.end = 0
        self.compiled = task.compiled

    def read(self) -> Iterator[_Rows]:
        """Usable documents in batches; none is given out before it is known whether compiled loops pay."""
        waiting: list[list[Document]] = [[]]
        characters = seen = 0
        for found in read_shard(self.task.shard, scratch=self.task.folder):
            if isinstance(found, Bad):
                self._quarantine(found)
                continue
            waiting[-1].append(found)
            characters += len(found.text) + DOCUMENT_CHARACTERS
            if characters >= BATCH_CHARACTERS:
                seen, characters = seen + characters, 0
                self.compiled |= seen >= COMPILED_FROM_CHARACTERS
                while self.compiled and waiting:
                    yield self._enter(waiting.pop(0))
                waiting.append([])
        while waiting:
            yield self._enter(waiting.pop(0))

    def clean(self, rows: _Rows) -> list[bytes]:
        """What is left of a batch, as rows of the corpus."""
        rules = self.task.rules
        if rules.normalisation is not None:
            rows = self._through("normalise", rows, _normalise(rows.texts, rules.normalisation))
        if rules.language is not None:
            rows = self._identify(rows, rules.language)
        if rules.quality is not None:
            rows = self._through("quality", rows, self._judge(rows.texts, rules.quality))
        if rules.scrubbing is not None:
            rows = self._through("scrub", rows, _scrub(rows.texts, rules.scrubbing))
        return self._finish(rows)

    def summary(self, made_from: str) -> ShardSummary:
        return ShardSummary(
            made_from=made_from,
            source=self.source.name,
            documents=sum(map(len, self.numbers)),
            row_bytes=self.end,
            steps=self.steps,
            samples={step: samples.rows for step, samples in self.samples.items()},
            first_bad=self.first_bad,
            dropped_lengths=self.dropped_lengths.tolist(),
            dropped_scores=self.dropped_scores.tolist(),
            languages=self.languages,
            changes={step: dict(counts) for step, counts in self.changes.items()},
        )

    def _quarantine(self, bad: Bad) -> None:
        if (rule := self.task.rules.scrubbing) is not None:
            bad = bad._replace(excerpt=scrub(bad.excerpt, rule).text)
        self._count("read", SourceStep(entered=ONE_ROW, left=Tally(), dropped={bad.drop.reason: ONE_ROW}))
        self._samples("read").quarantine(bad)
        self.first_bad = self.first_bad or _where(bad, self.task.shard)

    def _enter(self, documents: list[Document]) -> _Rows:
        sizes = [len(document.text.encode()) for document in documents]
        self._count("read", passed(sizes, sizes, {}))
        return _Rows(documents, sizes, [NO_SCORE] * len(documents))

    def _identify(self, rows: _Rows, rule: LanguageRule) -> _Rows:
        found = list(loaded_model(rule).identify(rows.texts))
        sizes: dict[str, list[int]] = {}
        for language, size in zip(found, rows.sizes, strict=True):
            sizes.setdefault(language.code, []).append(size)
        for code, own in sizes.items():
            self.languages[code] = self.languages.get(code, Tally()) + tally(own)
        scored = rows._replace(scores=[score_bin(language.score) for language in found])
        verdicts = (Verdict(rule.drop(language), text) for language, text in zip(found, rows.texts, strict=True))
        return self._through("language", scored, verdicts)

    def _judge(self, texts: list[str], rules: QualityRules) -> list[Verdict]:
        if not self.source.is_prose:  # rules for prose say nothing of records
            return [Verdict(None, text) for text in texts]
        return rules.judge_all(texts, compiled=self.compiled)

    def _through(self, step: StepName, rows: _Rows, verdicts: Iterable[Verdict]) -> _Rows:
        """What a step leaves of the rows; it has a verdict on each."""
        left, out = _Rows([], [], []), _Rows([], [], [])
        dropped: dict[str, list[int]] = {}
        changes = self.changes.setdefault(step, Counter())
        for document, size, score, verdict in zip(*rows, verdicts, strict=True):
            if verdict.drop is not None:
                out.documents.append(document)
                out.scores.append(score)
                dropped.setdefault(verdict.drop.reason, []).append(size)
                self._samples(step).drop(document, verdict.drop)
                continue
            if verdict.removed_lines:
                changes.update(verdict.removed_lines)
            is_same = verdict.text is document.text
            left.documents.append(document if is_same else document._replace(text=verdict.text))
            left.sizes.append(size if is_same else len(verdict.text.encode()))
            left.scores.append(score)
        self.dropped_lengths += count_lengths([len(text) for text in out.texts])
        self.dropped_scores += count_scores(out.scores)
        self._count(step, passed(rows.sizes, left.sizes, dropped))
        return left

    def _finish(self, rows: _Rows) -> list[bytes]:
        """The rows as they will stand in the corpus; what is known of them joins `numbers`."""
        lines = [orjson.dumps(document._asdict(), option=orjson.OPT_APPEND_NEWLINE) for document in rows.documents]
        known = np.empty(len(lines), NUMBERS)
        known["id"] = digests(document.id.encode() for document in rows.documents)
        known["text"] = digests(text.encode() for text in rows.texts)
        known["place"] = [hash64("validation", self.task.seed, *document[:2]) for document in rows.documents]
        known["end"] = self.end + np.cumsum([len(line) for line in lines], dtype=np.uint64)
        known["bytes"] = rows.sizes
        known["characters"] = [len(text) for text in rows.texts]
        known["score"] = rows.scores
        self.end += sum(map(len, lines))
        self.numbers.append(known)
        return lines

    def _count(self, step: StepName, counts: SourceStep) -> None:
        self.steps[step] = self.steps[step] + counts if step in self.steps else counts

    def _samples(self, step: StepName) -> Samples:
        return self.samples.setdefault(step, Samples(self.task.samples_per_reason, self.task.rules.scrubbing))


def _normalise(texts: Iterable[str], rule: Normalisation) -> Iterator[Verdict]:
    for text in texts:
        written, changes = normalise(text, rule)
        empty = None if written.strip() else Drop("normalised_to_nothing", "invisible characters and blanks only")
        yield Verdict(empty, written, changes)


def _scrub(texts: Iterable[str], rule: Scrubbing) -> Iterator[Verdict]:
    for text in texts:
        scrubbed, counts = scrub(text, rule)
        yield Verdict(None, scrubbed, counts)


def _where(bad: Bad, shard: SourceShard) -> str:
    """For the message that refuses a source: the bad row, as a person finds it."""
    path = shard.source.path
    place = f"{path}:{bad.id}" if isinstance(path, Path) and path.is_file() else f"{bad.source}: {bad.drop.detail}"
    return f"{place}: {bad.drop.reason} in {bad.excerpt!r}"
