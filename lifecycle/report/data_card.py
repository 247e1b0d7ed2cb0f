"""What a sealed corpus says of itself, gathered for a page and for the terminal: nothing is measured here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import orjson
from pydantic import BaseModel, ConfigDict

from lifecycle.artifacts import Corpus
from lifecycle.data import corpus_report
from lifecycle.data.corpus_report import CorpusReport, Histogram, Step, StepName, Tally
from lifecycle.data.demonstrations_report import DemonstrationsReport
from lifecycle.data.scrub import Scrubbing, scrub
from lifecycle.report.key_numbers import size
from lifecycle.report.sealed_files import opened, sealed_bytes, told
from lifecycle.report.text import shown
from lifecycle.report.words import percent

SAMPLES = "dropped.jsonl"
SHOWN_LANGUAGES = 12
STEPS: Mapping[StepName, str] = {
    "read": "rows that are documents",
    "normalise": "normalised",
    "language": "in a language asked for",
    "quality": "pass the quality rules",
    "scrub": "scrubbed of personal data",
    "repeated_ids": "ids that occur once",
    "exact_duplicates": "no exact copies",
    "near_duplicates": "no near copies",
    "decontamination": "no evaluation items",
    "caps": "within the caps",
    "mixture": "taken into the mixture",
}
ASKED_FOR: frozenset[StepName] = frozenset({"caps", "mixture"})
"""Steps that drop good text because a recipe asks for less of it: what they drop is no loss."""
SILENT = ASKED_FOR | {"normalise", "scrub", "repeated_ids", "held_out_prompts"}


class Sample(BaseModel):
    """A dropped document, as an example."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: str
    id: str
    reason: str
    detail: str = ""
    text: str
    """How it begins: the whole document is not kept."""

    def excerpt(self, limit: int) -> str:
        """Its first characters, made harmless."""
        return shown(self.text[:limit].rstrip(), limit) + (" …" if len(self.text) > limit else "")


@dataclass(frozen=True)
class Dropped:
    """What was dropped for one reason."""

    reason: str
    step: StepName
    by_source: Mapping[str, int]
    bytes: int
    samples: Sequence[Sample]

    @property
    def documents(self) -> int:
        return sum(self.by_source.values())


@dataclass(frozen=True)
class SourceLine:
    """One source from its rows to its part of the training text."""

    name: str
    licence: str
    origin: str
    """Its file, or what its place is known by; with a digest where the corpus names one."""
    read: Tally
    clean: Tally
    """After every filter, before caps and mixture."""
    kept: int
    kept_bytes: int
    dropped: Mapping[str, int]

    @property
    def file(self) -> str:
        """Where it is from, without the digest."""
        return self.origin.partition("@sha256:")[0]

    @property
    def lost_share(self) -> float:
        """Of its documents, dropped by filters; what a cap or a mixture leaves out is not lost."""
        return 1 - self.clean.documents / max(1, self.read.documents)

    @property
    def lost_bytes_share(self) -> float:
        return 1 - self.clean.bytes / max(1, self.read.bytes)

    @property
    def first_reason(self) -> str:
        """What dropped most of it; nothing where nothing was dropped."""
        return max(self.dropped, key=self.dropped.__getitem__, default="")


@dataclass(frozen=True)
class Card:
    """What cards have in common: a funnel with its steps and reasons, and examples of what was dropped."""

    report: CorpusReport | DemonstrationsReport
    samples: Sequence[Sample]

    labels: ClassVar[Mapping[StepName, str]]
    """The steps there may be, in words."""
    unit: ClassVar[str]
    """What is counted, in the plural."""

    @cached_property
    def steps(self) -> list[Step]:
        """The steps a person follows: those from which nothing is learned when they drop nothing are then left out."""
        return [step for step in self.report.steps if step.name not in SILENT or lost(step)]

    @cached_property
    def off(self) -> list[StepName]:
        """Steps that did not run. That nothing was found then says nothing."""
        ran = {step.name for step in self.report.steps}
        return [name for name in self.labels if name not in ran]

    @cached_property
    def read(self) -> Tally:
        return total(one.entered for one in self.report.steps[0].sources.values())

    @cached_property
    def dropped(self) -> list[Dropped]:
        """By reason, the commonest first."""
        samples: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            samples[sample.reason].append(sample)
        found = []
        for step in self.report.steps:
            for reason in lost(step):
                own = {name: one.dropped[reason] for name, one in step.sources.items() if reason in one.dropped}
                by_source = {name: tally.documents for name, tally in own.items() if tally.documents}
                found.append(Dropped(reason, step.name, by_source, total(own.values()).bytes, samples[reason]))
        return sorted(found, key=lambda one: -one.documents)

    @property
    def keeps_near_duplicates(self) -> bool:
        """They are looked for, so that none is on both sides of the validation split, but not dropped."""
        return False

    def count_of(self, reason: str) -> int:
        """Documents dropped for it."""
        return sum(one.documents for one in self.dropped if one.reason == reason)

    @cached_property
    def languages(self) -> dict[str, dict[str, int]]:
        """Source -> language -> documents, the commonest first; beyond SHOWN_LANGUAGES as `others`."""
        found = {}
        for source, tallies in self.report.languages.items():
            ranked = sorted(tallies.items(), key=lambda item: (-item[1].documents, item[0]))
            found[source] = {code: tally.documents for code, tally in ranked[:SHOWN_LANGUAGES]}
            if rest := sum(tally.documents for _, tally in ranked[SHOWN_LANGUAGES:]):
                found[source]["others"] = rest
        return found


@dataclass(frozen=True)
class DataCard(Card):
    """A corpus with its report and the examples of what it dropped."""

    report: CorpusReport
    corpus: Corpus

    labels: ClassVar[Mapping[StepName, str]] = STEPS
    unit: ClassVar[str] = "documents"

    @cached_property
    def kept(self) -> Tally:
        documents = sum(source.kept for source in self.corpus.sources.values())
        return Tally(documents=documents, bytes=sum(source.kept_bytes for source in self.corpus.sources.values()))

    @property
    def keeps_near_duplicates(self) -> bool:
        """They are looked for, so that none is on both sides of the validation split, but not dropped."""
        return bool(self.corpus.manifest.config.get("keep_near_duplicates"))

    @cached_property
    def sources(self) -> list[SourceLine]:
        """In the recipe's order."""
        filters = [step for step in self.report.steps if step.name not in ASKED_FOR]
        origins = {one.get("name"): _origin(one.get("path")) for one in self.corpus.manifest.config.get("sources", [])}
        return [
            SourceLine(
                name,
                count.licence,
                origins.get(name, ""),
                filters[0].sources[name].entered,
                filters[-1].sources[name].left,
                count.kept,
                count.kept_bytes,
                {
                    reason: tally.documents
                    for step in filters
                    for reason, tally in step.sources[name].dropped.items()
                    if tally.documents
                },
            )
            for name, count in self.corpus.sources.items()
        ]


def card_of(folder: Path) -> DataCard:
    """The card of the corpus sealed in a folder."""
    corpus = opened(Corpus, folder)
    report = told(CorpusReport, corpus, corpus_report.FILE)
    rows = sealed_bytes(corpus, SAMPLES).splitlines() if SAMPLES in corpus.manifest.files else []
    return DataCard(report, samples_of(rows), corpus)


def headline(card: DataCard) -> str:
    """What it is, in a line."""
    documents = f"{card.kept.documents:,} documents, {size(card.kept.bytes)}"
    return f"{documents} from {len(card.sources)} source{'' if len(card.sources) == 1 else 's'}"


def summary(card: DataCard) -> str:
    """How much stayed, and what it is for, in a sentence or two."""
    stayed = percent(card.kept.documents / max(1, card.read.documents), 1)
    train, held_out = card.corpus.train_documents, card.corpus.validation_documents
    again = "" if train + held_out == card.kept.documents else ", those of them that the mixture repeats counted again"
    return (
        f"Of {card.read.documents:,} rows read, {stayed} stayed. {held_out:,} documents are held out for validation, "
        f"{train:,} are for training{again}."
    )


def lost(step: Step) -> dict[str, int]:
    """Documents dropped in a step by reason, the commonest first."""
    reasons: dict[str, int] = defaultdict(int)
    for one in step.sources.values():
        for reason, tally in one.dropped.items():
            reasons[reason] += tally.documents
    return {reason: count for reason, count in sorted(reasons.items(), key=lambda item: -item[1]) if count}


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    documents = size = 0
    for tally in tallies:
        documents, size = documents + tally.documents, size + tally.bytes
    return Tally(documents=documents, bytes=size)


def left(step: Step) -> Tally:
    """What a step leaves of all sources."""
    return total(one.left for one in step.sources.values())


def together(histograms: Sequence[Histogram]) -> Histogram | None:
    """The sum of histograms with equal edges; None where there is none, or the edges differ."""
    if len({tuple(one.edges) for one in histograms}) != 1:
        return None
    return Histogram(
        edges=histograms[0].edges,
        kept=[sum(counts) for counts in zip(*(one.kept for one in histograms), strict=True)],
        dropped=[sum(counts) for counts in zip(*(one.dropped for one in histograms), strict=True)],
    )


def samples_of(rows: Iterable[bytes]) -> list[Sample]:
    """The examples of a file of them, as they may be shown."""
    return [_sample(row) for row in rows]


def _sample(row: bytes) -> Sample:
    """A sample as it may be shown: scrubbed, also where the recipe did not ask for it."""
    sample, rule = Sample.model_validate(orjson.loads(row)), Scrubbing()
    return sample.model_copy(update={"text": scrub(sample.text, rule).text, "detail": scrub(sample.detail, rule).text})


def _origin(place: object) -> str:
    """Where a source is, in a word: the file's name, or what a tagged place is known by."""
    if isinstance(place, Mapping):
        named = (place.get(key) for key in ("repository", "url", "checksums", "path"))
        return next((str(name) for name in named if name), "")
    return str(place or "")
