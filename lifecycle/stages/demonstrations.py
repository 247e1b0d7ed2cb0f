"""Conversations that show the behaviour we want: checked, distinct, and none of them held out for scoring.

Every row read is kept or dropped for one reason, counted by source; texts stay in files, numbers in memory.
"""

from collections import Counter
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Demonstrations, Suites
from lifecycle.data import demonstrations_report as reports
from lifecycle.data.answers import AnswerRules
from lifecycle.data.conversation_rows import RowRules
from lifecycle.data.conversation_selection import Body, ConversationSelection, bad_rows_of, refuse_if_broken
from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.data.decontaminate import HeldOut, NgramRule
from lifecycle.data.jsonl import write_rows
from lifecycle.data.language import LanguageRule, model_path
from lifecycle.data.minhash import COMPILED_FROM_CHARACTERS, NearDuplicates
from lifecycle.data.mixture import Ratio
from lifecycle.data.row_mixture import RowMixture, drop_over_max_rows, mix_rows
from lifecycle.data.sources.files import stored_bytes
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, later_field


class DemonstrationsConfig(StageConfig):
    """Which conversations: one body that brings its own dev file, more `sources` that give a share of theirs, or both.

    A row may hold a record, whose words then count instead of the prompt's when held-out items are looked for.
    """

    stage: ClassVar[str] = "demonstrations"
    train: Path | None = Field(None, description="Conversations to train on: JSON Lines (.gz, .zst) or Parquet.")
    dev: Path | None = Field(
        None, description="Conversations to watch the loss on; what is asked in here is dropped from training."
    )
    source: str = Field("contract", min_length=1, description="The name of this body of conversations in counts.")
    licence: str = Field("unstated", min_length=1, description="What allows its use.")
    max_bad_row_share: float = Field(0.0, ge=0, le=1, description="More unusable rows than this refuse a source.")
    decontamination: NgramRule = Field(
        NgramRule(ngram_words=8), description="8 words: our records have 7 to 14, and a row is worth less than an item."
    )
    sources: tuple[ConversationSource, ...] = later_field((), description="More conversations, in order of preference.")
    dev_share: float = later_field(
        0.02, gt=0, lt=0.5, description="Of each of `sources`, to watch the loss on, by hash."
    )
    language: LanguageRule | None = later_field(None, description="Keep answers in the languages asked for.")
    language_from_characters: int = later_field(
        100, ge=1, description="Answers with fewer are kept unseen: of our 978 glosses 39 shorter ones fell below .65."
    )
    quality: AnswerRules | None = later_field(None, description="Rules for answers, with their thresholds.")
    near_duplicates: NearDuplicates | None = later_field(
        None, description="Of conversations whose turns are nearly equal, the system turn aside, keep the first."
    )
    mixture: RowMixture | None = later_field(
        None, description="Shares and number of training rows; None: all there are."
    )
    seed: int = later_field(0, description="Names the hashed order behind caps, mixture and the dev split.")

    @field_validator("language")
    @classmethod
    def _model_is_part_of_what_it_is(cls, rule: LanguageRule | None) -> LanguageRule | None:
        return rule and rule.model_copy(update={"model": model_path(rule)})

    @model_validator(mode="after")
    def _there_is_something_to_read(self) -> "DemonstrationsConfig":
        if (self.train is None) != (self.dev is None) or (self.train is None and not self.sources):
            raise ValueError("expected train and dev, or sources, or all of them; found one file of two, or nothing.")
        names = [body.label for body in self.bodies]
        if len(set(names)) < len(names):
            raise ValueError(f"expected sources with different names, found {names}. Rename one.")
        return self

    @model_validator(mode="after")
    def _weights_have_an_effect(self) -> "DemonstrationsConfig":
        trained_on = [body.source for body in self.bodies if body.use != "dev"]
        weighted = {source.name for source in trained_on if source.weight is not None}
        by_weight = self.mixture is not None and isinstance(self.mixture.shares, Ratio)
        if weighted and not by_weight:
            raise ValueError(f"expected a mixture by ratio behind the weights of {sorted(weighted)}, found none.")
        if by_weight and (missing := [source.name for source in trained_on if source.name not in weighted]):
            raise ValueError(
                f"expected a weight for every source of a mixture by ratio, found none for {missing}. "
                "The body of `train` has none: name its file as a source."
            )
        if self.mixture is None and any(source.max_epochs > 1 for source in self.sources):
            raise ValueError("expected a mixture where a source has max_epochs: without one every row comes once.")
        return self

    @property
    def bodies(self) -> list[Body]:
        """What is read, in order of preference: the file that is all held out, the one to train on, then sources."""
        own = []
        if self.dev is not None and self.train is not None:
            dev, train = (
                ConversationSource.model_construct(name=self.source, path=path, licence=self.licence)
                for path in (self.dev, self.train)
            )
            own = [Body(dev, f"{self.source}-dev", "dev"), Body(train, self.source, "train")]
        return [*own, *(Body(source, source.name, "both") for source in self.sources)]


def curate_demonstrations(config: DemonstrationsConfig, suites: Suites, *, out_dir: Path) -> Demonstrations:
    """Distinct conversations, none with the prompt or the record of a held-out item, in a train and a dev file."""
    contracts.holds_items(suites)
    held_out = HeldOut(suites, config.decontamination)
    found = ConversationSelection(config.bodies, out_dir / SCRATCH_FOLDER)
    found.gather(_rules(config, held_out), seed=config.seed)
    found.drop_repeated_ids()
    found.refuse_if_broken(config.max_bad_row_share)
    found.drop_copies(config.near_duplicates)
    found.drop_held_out_items()
    found.hold_out(config.dev_share)
    drop_over_max_rows(found.selection, found.to_train_on())
    found.refuse_if_empty()
    repeats, mixture = mix_rows(found.selection, found.to_train_on(), config.mixture)
    found.write(out_dir / "dev.jsonl", found.is_dev.astype(repeats.dtype))
    found.write(out_dir / "train.jsonl", repeats)
    reports.write_folder(out_dir)
    report = found.report(held_out, mixture)
    (out_dir / reports.REPORT).write_text(report.model_dump_json(indent=1))
    write_rows(out_dir / reports.SAMPLES, found.funnel.samples.rows)
    return Demonstrations(
        path=out_dir,
        train_rows=int(repeats.sum(dtype=int)),
        dev_rows=int(found.is_dev.sum()),
        dropped=_dropped(config, found),
        shortfalls=mixture.shortfalls,
        suites_digest=suites.digest,
    ).seal(config, suites)


def check_rows(config: DemonstrationsConfig) -> None:
    """Raise InputError where a source on this machine has too many rows that are no conversation."""
    for body in config.bodies:
        if body.source.is_here:
            refuse_if_broken(*bad_rows_of(body.source), max_bad_row_share=config.max_bad_row_share)


def _rules(config: DemonstrationsConfig, held_out: HeldOut) -> RowRules:
    paths = [body.source.path for body in config.bodies if isinstance(body.source.path, Path)]
    much = sum(map(stored_bytes, paths)) >= COMPILED_FROM_CHARACTERS or len(paths) < len(config.bodies)
    return RowRules(config.quality, config.language, config.language_from_characters, held_out, compiled=much)


def _dropped(config: DemonstrationsConfig, found: ConversationSelection) -> dict[str, int]:
    """Rows by split and reason."""
    dropped: dict[str, int] = {}
    for split in ("dev", "train"):
        labels = [body.label for body in config.bodies if (body.use == "dev") == (split == "dev")]
        counts = sum((Counter(found.funnel.dropped(label)) for label in labels), Counter[str]())
        dropped |= {f"{split}_{reason}": count for reason, count in sorted(counts.items())}
    return dropped
