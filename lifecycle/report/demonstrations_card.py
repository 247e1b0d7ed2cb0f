"""What sealed demonstrations say of themselves, gathered for a page and for the terminal: nothing is measured here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lifecycle.artifacts import Demonstrations
from lifecycle.data import demonstrations_report as reports
from lifecycle.data.corpus_report import StepName, Tally
from lifecycle.data.demonstrations_report import DemonstrationsReport, Kinds, RowShare
from lifecycle.report.data_card import ASKED_FOR, Card, samples_of
from lifecycle.report.data_card_notices import BAD_ROWS, EPOCHS, LOST, Notice, fault_of_licence
from lifecycle.report.sealed_files import opened, sealed_bytes, told
from lifecycle.report.words import percent

STEPS: Mapping[StepName, str] = {
    "read": "rows that are conversations",
    "language": "answer in a language asked for",
    "quality": "pass the rules for answers",
    "repeated_ids": "ids that occur once",
    "exact_duplicates": "no exact copies",
    "near_duplicates": "no near copies",
    "decontamination": "no evaluation items",
    "held_out_prompts": "not asked in the dev file",
    "caps": "within the caps",
    "mixture": "taken into the mixture",
}
OFF: Mapping[StepName, str] = {
    "quality": "The rules for answers are off: cut off, looping and echoing answers were not looked for.",
    "near_duplicates": "Near-deduplication is off: almost equal conversations may be there many times, and on both "
    "sides of the dev split.",
    "language": "Language identification is off: which languages are answered in is not known.",
}


@dataclass(frozen=True)
class Body:
    """One source from its rows to its part of the training rows."""

    name: str
    kinds: Kinds
    read: Tally
    clean: int
    """After every filter, before caps and mixture."""
    dropped: Mapping[str, int]
    share: RowShare | None
    dev_rows: int

    @property
    def lost_share(self) -> float:
        return 1 - self.clean / max(1, self.read.documents)

    @property
    def says(self) -> str:
        """What its conversations are like, in words."""
        of = max(1, self.kinds.conversations)
        counts = {
            "with a system turn": self.kinds.with_system,
            "of several questions": self.kinds.with_several_answers,
            "with tool calls": self.kinds.with_tools,
        }
        return ", ".join(f"{percent(count / of)} {what}" for what, count in counts.items() if count) or "one question"


@dataclass(frozen=True)
class DemonstrationsCard(Card):
    """Demonstrations with their report and the examples of what was dropped."""

    report: DemonstrationsReport
    demonstrations: Demonstrations

    labels: ClassVar[Mapping[StepName, str]] = STEPS
    unit: ClassVar[str] = "conversations"

    @cached_property
    def sources(self) -> list[Body]:
        """In the recipe's order."""
        filters = [step for step in self.report.steps if step.name not in ASKED_FOR]
        return [
            Body(
                name,
                kinds,
                filters[0].sources[name].entered,
                filters[-1].sources[name].left.documents,
                {reason: tally.documents for step in filters for reason, tally in step.sources[name].dropped.items()},
                self.report.mixture.sources.get(name),
                self.report.held_out[name].rows if name in self.report.held_out else 0,
            )
            for name, kinds in self.report.kinds.items()
        ]

    @property
    def headline(self) -> str:
        """What it is, in a line."""
        count = len(self.report.mixture.sources)
        said = f"{self.demonstrations.train_rows:,} conversations to train on"
        return f"{said} from {count} source{'' if count == 1 else 's'}"

    @property
    def summary(self) -> str:
        """How much stayed, and what it is for."""
        kept = sum(source.clean for source in self.sources)
        stayed = percent(kept / max(1, self.read.documents), 1)
        return (
            f"Of {self.read.documents:,} rows read, {stayed} passed every filter. {self.demonstrations.dev_rows:,} "
            f"are held out to watch the loss on, {self.demonstrations.train_rows:,} trained on, repetitions counted."
        )

    @cached_property
    def notices(self) -> list[Notice]:
        """Losses first, then what is not known."""
        return sorted([*self._losses(), *self._unknown()], key=lambda notice: notice.tone)

    def _losses(self) -> Iterator[Notice]:
        for source in self.sources:
            bad = sum(count for reason, count in source.dropped.items() if reason.startswith("row_"))
            if source.lost_share > LOST:
                first = max(source.dropped, key=source.dropped.__getitem__)
                said = f"{source.name} lost {percent(source.lost_share)} of its rows"
                yield Notice("bad", f"{said}, {source.dropped[first]:,} of them for {first}.")
            if bad > BAD_ROWS * source.read.documents:
                yield Notice(
                    "open", f"{bad:,} of {source.read.documents:,} rows of {source.name} are no conversations."
                )
            if fault := fault_of_licence(source.kinds.licence):
                yield Notice("open", f"The licence of {source.name}, {source.kinds.licence}, {fault}.")
            if source.share is not None and source.share.epochs > EPOCHS:
                yield Notice("open", f"{source.name} is repeated {source.share.epochs:.1f} times.")
        for sentence in self.report.mixture.shortfalls:
            yield Notice("bad", sentence)

    def _unknown(self) -> Iterator[Notice]:
        found = {suite: count for suite, count in self.report.decontamination.items_found.items() if count}
        if found:
            suites = ", ".join(f"{count:,} of {suite}" for suite, count in found.items())
            yield Notice("open", f"Evaluation items occurred in the rows: {suites}. The conversations were dropped.")
        for step in self.off:
            if step in OFF:
                yield Notice("open", OFF[step])


def card_of(folder: Path) -> DemonstrationsCard:
    """The card of the demonstrations sealed in a folder."""
    demonstrations = opened(Demonstrations, folder)
    report = told(DemonstrationsReport, demonstrations, reports.REPORT)
    samples = samples_of(sealed_bytes(demonstrations, reports.SAMPLES).splitlines())
    return DemonstrationsCard(report, samples, demonstrations)
