"""Raw text to clean documents: read, filter, deduplicate, decontaminate, cap, hold out. Every drop is counted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
from pydantic import Field, model_validator

from lifecycle import contracts, progress
from lifecycle.artifacts import Corpus, Suites
from lifecycle.data.clusters import kept_of_each
from lifecycle.data.decontaminate import HeldOut, NgramRule
from lifecycle.data.dedup import first_copies, near_duplicate_clusters
from lifecycle.data.documents import Bad, Document, Source, read_documents
from lifecycle.data.filters import Drop, QualityRules
from lifecycle.data.funnel import Funnel
from lifecycle.data.jsonl import write_rows
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.mixture import over_cap, validation_split
from lifecycle.errors import InputError
from lifecycle.sealing import StageConfig

REPORT_EVERY_DOCUMENTS = 500


class CorpusConfig(StageConfig):
    """Which text, and what is dropped from it. A step set to None is switched off."""

    stage: ClassVar[str] = "corpus"
    revision: ClassVar[int] = 2
    sources: tuple[Source, ...] = Field(min_length=1, description="Where text comes from, in order of preference.")
    max_bad_row_share: float = Field(
        0.01, ge=0, le=1, description="More unusable rows than this in a source, and it is refused as broken."
    )
    quality: QualityRules | None = Field(QualityRules(), description="Filters of prose, with their thresholds.")
    exact_deduplication: bool = Field(True, description="Keep the first of documents with equal text.")
    near_duplicates: NearDuplicates | None = Field(NearDuplicates(), description="Keep the longest of near-duplicates.")
    decontamination: NgramRule = Field(
        NgramRule(), description="Drops text that shares an n-gram with a held-out item."
    )
    validation_share: float = Field(0.02, gt=0, lt=0.5, description="Of each source's documents, held out by hash.")
    seed: int = Field(0, description="Names the hashed order behind caps and the validation split.")
    samples_per_reason: int = Field(5, ge=0, description="Dropped documents kept for a look, per source and reason.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CorpusConfig":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"expected sources with different names, found {names}. Rename one.")
        return self


def build_corpus(config: CorpusConfig, suites: Suites, *, out_dir: Path) -> Corpus:
    """Clean, distinct documents that share nothing with a held-out item, a part of them held out for validation."""
    contracts.holds_items(suites)
    funnel = Funnel(config.sources, samples_per_reason=config.samples_per_reason)
    report: dict[str, Any] = {}
    documents = read_sources(config, funnel)
    documents = _filter(config, documents, funnel)
    documents = _deduplicate(config, documents, funnel, report, out_dir / "scratch")
    documents = _decontaminate(config, suites, documents, funnel, report)
    documents = _cap(config, documents, funnel)
    held_out = validation_split(documents, config.sources, share=config.validation_share, seed=config.seed)
    counts = funnel.counts(documents)
    empty = [name for name, count in counts.items() if count.kept == 0]
    if empty or not held_out or len(held_out) == len(documents):
        raise InputError(
            f"expected documents of every source to train and to validate on, found {len(documents)} in all "
            f"and none of {empty or 'one side'}. Loosen a filter, add text or remove the source:\n{funnel.table()}"
        )
    rows = [document._asdict() for document in documents]
    write_rows(out_dir / "dropped.jsonl", funnel.samples)
    (out_dir / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return Corpus(
        path=out_dir,
        train_documents=write_rows(
            out_dir / "train.jsonl", (row for index, row in enumerate(rows) if index not in held_out)
        ),
        validation_documents=write_rows(out_dir / "validation.jsonl", (rows[index] for index in sorted(held_out))),
        sources=counts,
        suites_digest=suites.digest,
    ).seal(config, suites)


def check_rows(config: CorpusConfig) -> None:
    """Raise InputError where a source has too many rows that are no text."""
    read_sources(config, Funnel(config.sources, samples_per_reason=0))


def read_sources(config: CorpusConfig, funnel: Funnel) -> list[Document]:
    """Every usable row of every source; the others are quarantined. Too many of them, and nothing is made."""
    documents: list[Document] = []
    for done, source in enumerate(config.sources):
        progress.report(done, len(config.sources), "sources", f"reading {source.name}")
        first_bad = ""
        for found in read_documents(source):
            funnel.read[source.name] += 1
            if isinstance(found, Document):
                documents.append(found)
                continue
            funnel.quarantine(found)
            first_bad = first_bad or _name_bad_row(source, found)
        bad, read = funnel.bad_rows(source.name), funnel.read[source.name]
        if bad > config.max_bad_row_share * read:
            raise InputError(
                f"{first_bad}\nexpected at most {config.max_bad_row_share:.2%} unusable rows in {source.name!r}, "
                f"found {bad} of {read}. Repair the file, or raise max_bad_row_share:\n{funnel.table()}"
            )
    return documents


def _name_bad_row(source: Source, bad: Bad) -> str:
    return f"{source.path}:{bad.id}: {bad.drop.reason} in {bad.excerpt!r}"


def _keep(
    documents: Sequence[Document], funnel: Funnel, drop: Callable[[int, Document], Drop | None], note: str
) -> list[Document]:
    """The documents for which `drop(index, document)` says None; the others are counted with what it says."""
    kept = []
    for index, document in enumerate(documents):
        if index % REPORT_EVERY_DOCUMENTS == 0:
            progress.report(index, len(documents), "documents", note)
        if (reason := drop(index, document)) is None:
            kept.append(document)
        else:
            funnel.drop(document, reason)
    return kept


def _filter(config: CorpusConfig, documents: Sequence[Document], funnel: Funnel) -> list[Document]:
    rules = config.quality
    if rules is None:
        return list(documents)
    prose = {source.name for source in config.sources if source.is_prose}
    return _keep(documents, funnel, lambda _, d: rules.drop(d.text) if d.source in prose else None, "quality filters")


def _deduplicate(
    config: CorpusConfig, documents: Sequence[Document], funnel: Funnel, report: dict[str, Any], scratch: Path
) -> list[Document]:
    if config.exact_deduplication:
        first = first_copies([document.text for document in documents])
        copies = {index: _copy_of(documents[of]) for index, of in enumerate(first) if index != of}
        documents = _keep_unlisted(documents, funnel, copies, "duplicate_exact", "exact duplicates")
    if config.near_duplicates is not None:
        texts = [document.text for document in documents]
        found = near_duplicate_clusters(texts, config.near_duplicates, scratch=scratch / "near_duplicates")
        kept = kept_of_each(found.cluster, np.fromiter(map(len, texts), np.int64, len(texts)))
        copies = {int(i): _copy_of(documents[kept[i]]) for i in np.flatnonzero(kept != np.arange(len(kept)))}
        clusters = len(np.unique(found.cluster[list(copies)]))
        pairs = {"candidate_pairs": found.candidate_pairs, "verified_pairs": found.unread_pairs + found.verified_pairs}
        report["near_duplicates"] = {**pairs, "clusters": clusters}
        documents = _keep_unlisted(documents, funnel, copies, "duplicate_near", "near duplicates")
    return list(documents)


def _decontaminate(
    config: CorpusConfig, suites: Suites, documents: Sequence[Document], funnel: Funnel, report: dict[str, Any]
) -> list[Document]:
    held_out = HeldOut(suites, config.decontamination)
    report["decontamination"] = held_out.facts
    found = held_out.found_in([document.text for document in documents])
    items = {index: f"shares words with {item}" for index, item in found.items()}
    return _keep_unlisted(documents, funnel, items, "contaminated", "decontamination")


def _cap(config: CorpusConfig, documents: Sequence[Document], funnel: Funnel) -> list[Document]:
    beyond = dict.fromkeys(over_cap(documents, config.sources, seed=config.seed), "beyond max_bytes of the source")
    return _keep_unlisted(documents, funnel, beyond, "over_cap", "caps")


def _keep_unlisted(
    documents: Sequence[Document], funnel: Funnel, details: Mapping[int, str], reason: str, note: str
) -> list[Document]:
    """The documents whose index is not in `details`; the others are dropped for `reason`."""
    return _keep(documents, funnel, lambda index, _: Drop(reason, details[index]) if index in details else None, note)


def _copy_of(document: Document) -> str:
    return f"copy of {document.id!r} in {document.source}"
