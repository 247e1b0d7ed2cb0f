"""Raw text to clean documents: clean, deduplicate, decontaminate, cap, hold out, mix. Every drop is counted.

Steps on single documents and searches run shard by shard, wherever the engine says; what looks at all documents looks
at numbers. Texts stay in files: memory grows by tens of bytes a document.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Corpus, SourceCount, Suites
from lifecycle.data import corpus_report, duplicates
from lifecycle.data.catalogue import Catalogue
from lifecycle.data.clean_shards import CleanShard
from lifecycle.data.cleaning import Cleaning, ShardSummary, ShardTask, clean_shard, is_much, read_only
from lifecycle.data.corpus_report import CorpusReport, Decontamination, Duplicates, MixtureFacts
from lifecycle.data.decontaminate import NgramRule, held_out_items, search_shard
from lifecycle.data.distributions import Distributions
from lifecycle.data.documents import Source
from lifecycle.data.filters import QualityRules
from lifecycle.data.funnel import Funnel
from lifecycle.data.jsonl import write_rows
from lifecycle.data.language import LanguageRule, model_path
from lifecycle.data.minhash import COMPILED_FROM_CHARACTERS, NearDuplicates
from lifecycle.data.mixture import Mixture, Ratio, drop_over_caps, mix
from lifecycle.data.normalise import Normalisation
from lifecycle.data.scrub import Scrubbing
from lifecycle.data.selection import Selection
from lifecycle.data.sources.shards import SHARD_BYTES, SourceShard, shards_of
from lifecycle.data.split import hold_out
from lifecycle.errors import InputError
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, how_it_ran, later_field
from lifecycle.spread import spread

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


class CorpusConfig(StageConfig):
    """Which text, and what is dropped from it. A step set to None is switched off."""

    stage: ClassVar[str] = "corpus"
    revision: ClassVar[int] = 3
    sources: tuple[Source, ...] = Field(min_length=1, description="Where text comes from, in order of preference.")
    max_bad_row_share: float = Field(
        0.01, ge=0, le=1, description="More unusable rows than this in a source, and it is refused as broken."
    )
    normalisation: Normalisation | None = later_field(None, description="One way to write the same text.")
    language: LanguageRule | None = later_field(None, description="Keep the languages asked for.")
    quality: QualityRules | None = Field(QualityRules(), description="Filters of prose, with their thresholds.")
    scrubbing: Scrubbing | None = later_field(None, description="Personal data and secrets become placeholders.")
    exact_deduplication: bool = Field(True, description="Keep the first of documents with equal text.")
    near_duplicates: NearDuplicates | None = Field(NearDuplicates(), description="Keep the longest of near-duplicates.")
    keep_near_duplicates: bool = later_field(
        False, description="Find their clusters, so that none is on both sides of the split, but drop nothing."
    )
    decontamination: NgramRule = Field(
        NgramRule(), description="Drops text that shares an n-gram with a held-out item."
    )
    mixture: Mixture | None = later_field(None, description="Shares and size of the training text; None: all there is.")
    validation_share: float = Field(0.02, gt=0, lt=0.5, description="Of each source's documents, held out by hash.")
    seed: int = Field(0, description="Names the hashed order behind caps, mixture and the validation split.")
    samples_per_reason: int = Field(5, ge=0, description="Dropped documents kept for a look, per source and reason.")
    shard_bytes: int = how_it_ran(SHARD_BYTES, ge=1, description="Stored bytes that one task reads.")
    bytes_per_task: int = how_it_ran(256 * 2**20, ge=1, description="Memory of a task of near-duplicate search.")

    @field_validator("language")
    @classmethod
    def _model_is_part_of_what_it_is(cls, rule: LanguageRule | None) -> LanguageRule | None:
        """The model's file, named, so that its bytes enter the identity even where it is the extra's."""
        return rule and rule.model_copy(update={"model": model_path(rule)})

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CorpusConfig":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"expected sources with different names, found {names}. Rename one.")
        return self

    @model_validator(mode="after")
    def _weights_have_an_effect(self) -> "CorpusConfig":
        weighted = [source.name for source in self.sources if source.weight is not None]
        by_weight = self.mixture is not None and isinstance(self.mixture.shares, Ratio)
        if weighted and not by_weight:
            raise ValueError(
                f"expected a mixture by ratio behind the weights of {weighted}, found none: they would change nothing. "
                "Set mixture to Mixture(), or remove the weights."
            )
        if by_weight and len(weighted) < len(self.sources):
            missing = [source.name for source in self.sources if source.weight is None]
            raise ValueError(f"expected a weight for every source of a mixture by ratio, found none for {missing}.")
        if self.mixture is None and any(source.max_epochs > 1 for source in self.sources):
            raise ValueError("expected a mixture where a source has max_epochs: without one every document comes once.")
        return self


def build_corpus(config: CorpusConfig, suites: Suites, *, out_dir: Path) -> Corpus:
    """Clean, distinct documents that share nothing with a held-out item, a part of them held out for validation."""
    contracts.holds_items(suites)
    scratch = out_dir / SCRATCH_FOLDER
    names = [source.name for source in config.sources]
    funnel = Funnel(names, samples_per_reason=config.samples_per_reason)
    summaries, catalogue = _clean(config, funnel, scratch)
    selection = Selection(catalogue, names, funnel)
    _drop_repeated_ids(config, selection, summaries)
    cluster, duplicate_facts = _deduplicate(config, selection, scratch)
    decontamination = _decontaminate(config, suites, selection)
    drop_over_caps(selection, config.sources)
    held_out, validation = hold_out(selection, cluster, share=config.validation_share)
    _refuse_if_empty(selection, held_out)
    repeats, mixture = mix(selection, config.sources, config.mixture, held_out)
    counted = Distributions(catalogue, names, summaries)
    report = CorpusReport(
        steps=funnel.report(),
        lengths=counted.lengths(),
        scores=counted.scores(),
        languages=counted.languages(),
        normalised=counted.changes("normalise"),
        removed_lines=counted.changes("quality"),
        scrubbed=counted.changes("scrub"),
        near_duplicates=duplicate_facts,
        decontamination=decontamination,
        mixture=mixture,
        validation=validation,
    )
    (out_dir / corpus_report.FILE).write_text(report.model_dump_json(indent=1))
    write_rows(out_dir / "dropped.jsonl", funnel.samples.rows)
    with (out_dir / "train.jsonl").open("wb") as file:
        for time in range(int(repeats.max())):  # what comes again comes after all that came once
            catalogue.write(repeats > time, file)
    with (out_dir / "validation.jsonl").open("wb") as file:
        catalogue.write(held_out, file)
    return Corpus(
        path=out_dir,
        train_documents=int(repeats.sum()),
        validation_documents=int(held_out.sum()),
        sources=_source_counts(config, selection, mixture),
        suites_digest=suites.digest,
        shortfalls=mixture.shortfalls,
    ).seal(config, suites)


def check_rows(config: CorpusConfig) -> None:
    """Raise InputError where a source on this machine has too many rows that are no text."""
    config = config.model_copy(update={"sources": tuple(source for source in config.sources if source.is_here)})
    funnel = Funnel([source.name for source in config.sources], samples_per_reason=0)
    first_bad: dict[str, str] = {}
    shards = [shard for _, shard in _shards(config)]
    read = partial(read_only, scrubbing=config.scrubbing)
    for source, steps, bad in spread(read, shards, unit="shards", name=_name_of, note="reading"):
        funnel.add(source, steps)
        first_bad[source] = first_bad.get(source) or bad
    _refuse_if_broken(config, funnel, first_bad)


def _shards(config: CorpusConfig) -> list[tuple[int, SourceShard]]:
    """Every shard of every source, with the source's number."""
    return [
        (number, shard)
        for number, source in enumerate(config.sources)
        for shard in shards_of(source, shard_bytes=config.shard_bytes)
    ]


def _name_of(shard: SourceShard) -> str:
    return f"{shard.source.name}/{shard.index}"


def _clean(config: CorpusConfig, funnel: Funnel, scratch: Path) -> tuple[list[ShardSummary], Catalogue]:
    """All sources through the steps on single documents."""
    rules = Cleaning(
        normalisation=config.normalisation, language=config.language, quality=config.quality, scrubbing=config.scrubbing
    )
    shards, compiled = _shards(config), is_much(config.sources)
    folder = scratch / f"clean-{config.shard_bytes}"  # numbers of shards mean something for one way to cut
    tasks = [
        ShardTask(number, shard, rules, config.seed, config.samples_per_reason, folder, compiled)
        for number, (_, shard) in enumerate(shards)
    ]
    summaries = spread(
        clean_shard, tasks, unit="shards", name=lambda task: _name_of(task.shard), note="reading and cleaning"
    )
    for summary in summaries:
        funnel.add(summary.source, summary.steps)
    for step in funnel.steps:
        for summary in summaries:
            funnel.samples.take(summary.samples.get(step, ()))
    clean = [
        CleanShard(task.number, source, summary.documents, task.file("jsonl"), task.file("npy"))
        for task, (source, _), summary in zip(tasks, shards, summaries, strict=True)
    ]
    return summaries, Catalogue(clean, scratch)


def _drop_repeated_ids(config: CorpusConfig, selection: Selection, summaries: list[ShardSummary]) -> None:
    """Then, and not before, it is known how broken a source is."""
    repeated = duplicates.drop_repeated_ids(selection)
    first_bad: dict[str, str] = {}
    for summary in summaries:
        first_bad[summary.source] = first_bad.get(summary.source) or summary.first_bad
    _refuse_if_broken(
        config, selection.funnel, {source: bad or repeated.get(source, "") for source, bad in first_bad.items()}
    )


def _refuse_if_broken(config: CorpusConfig, funnel: Funnel, first_bad: Mapping[str, str]) -> None:
    for source in funnel.sources:
        bad, read = funnel.bad_rows(source), funnel.read(source)
        if bad > config.max_bad_row_share * read:
            raise InputError(
                f"{first_bad[source]}\nexpected at most {config.max_bad_row_share:.2%} unusable rows in {source!r}, "
                f"found {bad} of {read}. Repair the file, or raise max_bad_row_share:\n{funnel.table()}"
            )


def _deduplicate(config: CorpusConfig, selection: Selection, scratch: Path) -> tuple[I64, Duplicates | None]:
    """For every document that is in, the label of its cluster."""
    first = duplicates.find_copies(selection, drop=config.exact_deduplication)
    if config.near_duplicates is None:
        return first, None
    return duplicates.find_near_copies(
        selection,
        first,
        config.near_duplicates,
        drop=not config.keep_near_duplicates,
        scratch=scratch / f"near_duplicates-{config.shard_bytes}-{config.bytes_per_task}",
        shard_bytes=config.shard_bytes,
        bytes_per_task=config.bytes_per_task,
    )


def _decontaminate(config: CorpusConfig, suites: Suites, selection: Selection) -> Decontamination:
    """Drop what shares words with an item of any suite."""
    catalogue = selection.catalogue
    search = partial(
        search_shard,
        suites=suites.model_dump_json(),
        rule=config.decontamination,
        compiled=catalogue.characters_in() >= COMPILED_FROM_CHARACTERS,
    )
    readers = catalogue.readers(documents=max(1, len(catalogue)), size=config.shard_bytes)
    found = spread(search, [reader.texts for reader in readers], unit="shards", note="decontamination")
    items = {
        int(reader.documents[row]): item
        for reader, in_shard in zip(readers, found, strict=True)
        for row, item in in_shard.items()
    }
    contaminated = np.array(sorted(items), np.int64)
    selection.drop("decontamination", "contaminated", contaminated, lambda d: f"shares words with {items[d]}")
    return Decontamination(
        **held_out_items(suites.model_dump_json(), config.decontamination).facts,
        items_found={suite: sum(i.startswith(f"{suite}/") for i in set(items.values())) for suite in suites.items},
    )


def _refuse_if_empty(selection: Selection, held_out: Mask) -> None:
    catalogue = selection.catalogue
    empty = [name for number, name in enumerate(selection.sources) if not len(catalogue.of_source(number))]
    if empty or not held_out.any() or not (catalogue.is_in & ~held_out).any():
        raise InputError(
            f"expected documents of every source to train and to validate on, found {catalogue.is_in.sum()} in all "
            f"and none of {empty or 'one side'}. Loosen a filter, add text or remove the source:\n"
            f"{selection.funnel.table()}"
        )


def _source_counts(config: CorpusConfig, selection: Selection, mixture: MixtureFacts) -> dict[str, SourceCount]:
    found = {}
    for number, source in enumerate(config.sources):
        kept, share = selection.tally(selection.catalogue.of_source(number)), mixture.sources[source.name]
        found[source.name] = SourceCount(
            licence=source.licence,
            read=selection.funnel.read(source.name),
            kept=kept.documents,
            kept_bytes=kept.bytes,
            dropped=selection.funnel.dropped(source.name),
            train_bytes=share.train_bytes,
            share=share.share,
            asked_share=share.asked_share,
        )
    return found
