"""What sealed comparisons say of themselves, on the terminal and for programs: nothing is measured here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from lifecycle.artifacts import Comparisons
from lifecycle.data.comparisons_report import REPORT, ComparisonsReport, Lengths
from lifecycle.report.data_card_notices import Notice, fault_of_licence
from lifecycle.report.data_card_screens import columns, notice_lines
from lifecycle.report.sealed_files import opened, told
from lifecycle.report.text import one_line
from lifecycle.report.words import percent

OWN = "train and heldout"


class ComparisonsCard(NamedTuple):
    """Comparisons and their report."""

    comparisons: Comparisons
    report: ComparisonsReport

    @property
    def headline(self) -> str:
        """What it is, in a line."""
        pairs, prompts = self.comparisons.train_pairs, self.report.prompts
        return f"{pairs:,} pairs to train on, about {prompts:,} prompts; {self.comparisons.heldout_pairs:,} held out"

    @property
    def notices(self) -> list[Notice]:
        """What something shallow could win by, then what is not known."""
        return [*(Notice("bad", warning) for warning in self.report.warnings), *self._unknown()]

    def _unknown(self) -> Iterator[Notice]:
        for name, source in self.report.sources.items():
            if fault := fault_of_licence(source.licence):
                yield Notice("open", f"The licence of {name or OWN}, {source.licence}, {fault}.")
        if not self.report.verified.decided:
            yield Notice("open", "No verifier could decide a pair: whether labels are right is not known.")


def card_of(folder: Path) -> ComparisonsCard:
    """The card of the comparisons sealed in a folder."""
    comparisons = opened(Comparisons, folder)
    return ComparisonsCard(comparisons, told(ComparisonsReport, comparisons, REPORT))


def screen(card: ComparisonsCard) -> RenderableType:
    """The sources, what pairs could be won by, what was dropped, and what to look at."""
    report = card.report
    table = columns("source", "licence", "made from", "to train on", "held out", "characters", words=3)
    for name, source in report.sources.items():
        made_from = ", ".join(f"{count:,} {kind}" for kind, count in source.kinds.items())
        words = (one_line(text) for text in (name or OWN, source.licence, made_from))
        table.add_row(*words, f"{source.train:,}", f"{source.heldout:,}", _characters(source.lengths))
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items() if count)
    lines = [*_signals(report), f"dropped: {dropped or 'nothing'}"]
    parts: list[RenderableType] = [Text(card.headline, style="bold"), Text(), table, Text()]
    parts += [Text(one_line(line)) for line in lines]
    if card.notices:
        parts += [Text(), *notice_lines(card.notices)]
    return Group(*parts)


def as_data(card: ComparisonsCard) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "path": str(card.comparisons.path),
        "digest": card.comparisons.digest,
        **card.comparisons.facts(),
        "notices": [notice._asdict() for notice in card.notices],
        "report": card.report.model_dump(mode="json"),
    }


def _characters(lengths: Lengths | None) -> str:
    return f"{lengths.chosen_mean:.0f} against {lengths.rejected_mean:.0f}" if lengths else ""


def _signals(report: ComparisonsReport) -> Iterator[str]:
    yield f"the shorter answer is chosen in {percent(report.lengths.shorter_is_chosen, 1)} of the pairs"
    if (phrase := report.phrase) is not None:
        said = f"{percent(phrase.only_in_chosen)} in chosen alone, {percent(phrase.only_in_rejected)} in rejected alone"
        yield f"the phrase that decides most: {phrase.text!r}, {said}"
    if report.positions.shown:
        share = percent(report.positions.first_won / report.positions.shown)
        yield f"the answer shown first won {share} of {report.positions.shown:,}"
    if report.verified.decided:
        yield f"a verifier contradicts {report.verified.contradicted:,} of {report.verified.decided:,} labels"
