"""A corpus and a tokenizer on the terminal: the funnel, what was dropped with examples, the fit. For programs: JSON."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lifecycle.errors import InputError
from lifecycle.report.data_card import Card, DataCard, Dropped, headline, left, lost, summary
from lifecycle.report.data_card_notices import Notice, notices
from lifecycle.report.key_numbers import size
from lifecycle.report.reasons import family, meaning
from lifecycle.report.text import one_line
from lifecycle.report.words import percent

BAR = 30
EXCERPT_CHARACTERS = 1_000  # of an example: all that a corpus keeps of it
REASONS = 4  # of a step on the screen of the funnel
STYLES = {"bad": "red", "open": "yellow"}


def corpus_screen(card: DataCard) -> RenderableType:
    """The funnel, the sources, and what to look at."""
    parts: list[RenderableType] = [Text(headline(card), style="bold"), Text(summary(card)), Text()]
    parts += [funnel(card), Text(), _sources(card), Text(), _mixture(card)]
    if card.off:
        parts.append(Text(f"\noff: {', '.join(name.replace('_', ' ') for name in card.off)}", style="dim"))
    found = notices(card)
    if found:
        parts += [Text(), *notice_lines(found)]
    return Group(*parts)


def examples_screen(card: Card, reason: str) -> RenderableType:
    """What was dropped for a reason: real documents, every character of them made harmless."""
    found = of_reason(card, reason)
    by_source = ", ".join(f"{source} {count:,}" for source, count in found.by_source.items() if count)
    title = Text.assemble((reason, "bold"), f": {found.documents:,} {card.unit} ({by_source})")
    paper = family(reason).paper
    said = "; ".join(filter(None, [meaning(reason), paper and f"{paper}, {family(reason).link}"]))
    parts: list[RenderableType] = [title, Text(said, style="dim"), Text()]
    for sample in found.samples:
        source, name = (one_line(sample.source), "cyan"), (one_line(sample.id), "bold")
        parts.append(Text.assemble(source, " ", name, "  ", one_line(sample.detail)))
        parts.append(Padding(Text(sample.excerpt(EXCERPT_CHARACTERS)), (0, 0, 1, 2)))
    kept = f"{len(found.samples):,} of {found.documents:,} were kept as examples"
    return Group(*parts, Text(f"{kept}; personal data in them is replaced.", style="dim"))


def reasons_screen(card: Card) -> RenderableType:
    """Every reason with its count and what it means."""
    table = columns("reason", card.unit, words=1)
    table.add_column("means", overflow="fold")
    for found in card.dropped:
        table.add_row(found.reason, f"{found.documents:,}", Text(meaning(found.reason), style="dim"))
    return table if card.dropped else Text("Nothing was dropped.")


def columns(*names: str, words: int) -> Table:
    """An empty table without lines: the first so many columns are words, which may be folded, the others numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        if number < words:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    return table


def of_reason(card: Card, reason: str) -> Dropped:
    """What was dropped for this reason; refuses one for which nothing was."""
    found = {one.reason: one for one in card.dropped}
    if reason not in found:
        known = ", ".join(f"{one.reason} ({one.documents:,})" for one in card.dropped) or "none"
        raise InputError(f"expected a reason for which {card.unit} were dropped, found {reason!r}. There are: {known}.")
    return found[reason]


def corpus_data(card: DataCard, reason: str | None = None) -> dict[str, Any]:
    """The same, for programs; of one reason, its examples."""
    if reason:
        found = of_reason(card, reason)
        counts = {"documents": found.documents, "bytes": found.bytes, "sources": dict(found.by_source)}
        examples = [sample.model_dump() for sample in found.samples]
        return {"reason": reason, "step": found.step, "means": meaning(reason), **counts, "examples": examples}
    return {
        "path": str(card.corpus.path),
        "digest": card.corpus.digest,
        **card.corpus.facts(),
        "off": card.off,
        "notices": [notice._asdict() for notice in notices(card)],
        "dropped": {found.reason: found.documents for found in card.dropped},
        "report": card.report.model_dump(mode="json"),
    }


def funnel(card: Card) -> RenderableType:
    """A bar for each step, and under it what was dropped there."""
    wide, whole = max(map(len, card.labels.values())), max(1, card.read.documents)
    lines: list[RenderableType] = [_bar("rows read".ljust(wide), whole, whole)]
    for step in card.steps:
        lines.append(_bar(card.labels[step.name].ljust(wide), left(step).documents, whole))
        reasons = lost(step)
        some = [f"−{number:,} {reason}" for reason, number in list(reasons.items())[:REASONS]]
        if len(reasons) > REASONS:
            some.append(f"−{sum(list(reasons.values())[REASONS:]):,} for {len(reasons) - REASONS} rarer reasons")
        if some:
            lines.append(Padding(Text("  ".join(some), style="dim"), (0, 0, 0, 2)))
    return Group(*lines)


def _bar(label: str, count: int, whole: int) -> Text:
    filled = "█" * (max(1, round(BAR * count / whole)) if count else 0)
    return Text.assemble(
        (label, "bold"), "  ", (filled.ljust(BAR), "blue"), f"{count:>14,}", f"{percent(count / whole, 1):>9}"
    )


def _sources(card: DataCard) -> RenderableType:
    table = columns("source", "licence", "rows read", "filtered", "kept", "text", words=2)
    for source in card.sources:
        counts = (f"{source.read.documents:,}", percent(1 - source.lost_share, 1), f"{source.kept:,}")
        table.add_row(one_line(source.name), one_line(source.licence), *counts, size(source.kept_bytes))
    return table


def _mixture(card: DataCard) -> RenderableType:
    table = columns("training text", "available", "trained on", "epochs", "asked for", "achieved", words=1)
    for name, share in card.report.mixture.sources.items():
        asked = "all of it" if share.asked_share is None else percent(share.asked_share, 1)
        sizes = (size(share.available_bytes), size(share.train_bytes))
        table.add_row(one_line(name), *sizes, f"{share.epochs:.2f}", asked, percent(share.share, 1))
    return table


def notice_lines(found: Iterable[Notice]) -> list[RenderableType]:
    return [Text(f"• {one_line(notice.text, 400)}", style=STYLES[notice.tone]) for notice in found]
