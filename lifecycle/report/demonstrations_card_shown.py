"""Demonstrations on the terminal, for programs, and as one HTML page that needs nothing else."""

from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lifecycle.report import data_card_pictures as pictures
from lifecycle.report import figures
from lifecycle.report.data_card import ASKED_FOR
from lifecycle.report.data_card_screens import columns, funnel, notice_lines, of_reason
from lifecycle.report.demonstrations_card import DemonstrationsCard
from lifecycle.report.figures import Axis, Mark
from lifecycle.report.figures import Row as FigureRow
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.reasons import meaning
from lifecycle.report.text import one_line
from lifecycle.report.words import percent

READ, TRAINED_ON, ASKED = "of the rows read", "of the rows trained on", "asked for"


def screen(card: DemonstrationsCard) -> RenderableType:
    """The funnel, the sources, and what to look at."""
    table = columns("source", "licence", "shape", "rows read", "filtered", "trained on", "dev", "share", words=3)
    for source in card.sources:
        counts = [f"{source.read.documents:,}", percent(1 - source.lost_share, 1)]
        share = source.share
        counts += [f"{share.train_rows:,}" if share else "", f"{source.dev_rows:,}" if source.dev_rows else ""]
        words = (one_line(text) for text in (source.name, source.kinds.licence, source.kinds.shape))
        table.add_row(*words, *counts, percent(share.share, 1) if share else "")
    parts: list[RenderableType] = [Text(card.headline, style="bold"), Text(card.summary), Text(), funnel(card), Text()]
    parts += [table, *(Text(f"{one_line(source.name)}: {source.says}", style="dim") for source in card.sources)]
    if card.off:
        parts.append(Text(f"\noff: {', '.join(name.replace('_', ' ') for name in card.off)}", style="dim"))
    if card.notices:
        parts += [Text(), *notice_lines(card.notices)]
    return Group(*parts)


def as_data(card: DemonstrationsCard, reason: str | None = None) -> dict[str, Any]:
    """The same, for programs; of one reason, its examples."""
    if reason:
        found = of_reason(card, reason)
        examples = [sample.model_dump() for sample in found.samples]
        counts = {"conversations": found.documents, "sources": dict(found.by_source)}
        return {"reason": reason, "step": found.step, "means": meaning(reason), **counts, "examples": examples}
    return {
        "path": str(card.demonstrations.path),
        "digest": card.demonstrations.digest,
        **card.demonstrations.facts(),
        "off": card.off,
        "notices": [notice._asdict() for notice in card.notices],
        "report": card.report.model_dump(mode="json"),
    }


def page(card: DemonstrationsCard, *, name: str, command: str) -> str:
    """The whole page. `name` is what they are called, `command` what makes this page again."""
    from lifecycle.report.data_card_page import EXCERPT_CHARACTERS, flat, reason_shown  # jinja2
    from lifecycle.report.templates import html_environment, policy, style_sheet

    style, manifest = style_sheet(), card.demonstrations.manifest
    return (
        html_environment()
        .get_template("demonstrations_card.html.jinja")
        .render(
            card=card,
            report=card.report,
            name=one_line(name),
            command=command,
            style=style,
            policy=policy(style),
            funnel=pictures.funnel(card),
            lengths=pictures.lengths(card),
            clusters=pictures.clusters(card),
            shares=shares(card),
            reasons=[reason_shown(one) for one in sorted(card.dropped, key=lambda one: one.step in ASKED_FOR)],
            excerpt_characters=EXCERPT_CHARACTERS,
            settings=dict(flat({key: value for key, value in manifest.config.items() if key != "sources"})),
        )
    )


def shares(card: DemonstrationsCard) -> Picture | None:
    """Each source's part of the rows read and of those trained on; nothing where there is one source."""
    trained_on = [(source, source.share) for source in card.sources if source.share is not None]
    read = sum(source.read.documents for source, _ in trained_on)
    if len(trained_on) < 2:
        return None
    rows = []
    for source, share in trained_on[: 2 * pictures.SHOWN_SOURCES]:
        before = source.read.documents / max(1, read)
        marks = [
            Mark(before, tone="other", says=f"{percent(before, 1)} {READ}"),
            Mark(share.share, says=f"{percent(share.share, 1)} {TRAINED_ON}"),
        ]
        rows.append(
            FigureRow(source.name, marks, f"{percent(before, 1)} → {percent(share.share, 1)}", share.asked_share)
        )
    legend: figures.Legend = {READ: "other", TRAINED_ON: "main"}
    if any(row.limit is not None for row in rows):
        legend = {**legend, ASKED: "limit"}
    draw = partial(figures.intervals, rows, axis=Axis("share", percent, 0.0), legend=legend)
    return drawn(draw, "Rows, repetitions counted as often as they are read.", title="Source shares before and after")
