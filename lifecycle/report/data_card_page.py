"""A data card as one HTML page that needs nothing else, and as Markdown: both from a sealed corpus."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifecycle.errors import InputError
from lifecycle.report import data_card_pictures as pictures
from lifecycle.report.data_card import STEPS, DataCard, Dropped, Sample, card_of, headline, left, lost, summary
from lifecycle.report.data_card_notices import notices
from lifecycle.report.key_numbers import size
from lifecycle.report.reasons import family, meaning
from lifecycle.report.templates import html_environment, markdown_environment, policy, style_sheet
from lifecycle.report.tokenizer_card import SHOWN_TOKENS, TokenizerCard, tokenizer_card
from lifecycle.runs import Run
from lifecycle.sealing import write_atomically

EXAMPLES = 3  # of one reason on the page; `show corpus --dropped` prints all that were kept
EXCERPT_CHARACTERS = 400  # of each

SECTIONS = {
    "sources": "Sources",
    "funnel": "From rows to documents",
    "dropped": "What was dropped",
    "lengths": "Lengths",
    "scores": "Scores",
    "mixture": "Mixture",
    "duplicates": "Duplicates",
    "decontamination": "Held out for evaluation",
    "personal": "Personal data",
    "languages": "Languages",
    "edits": "Changes to the text",
    "validation": "Validation split",
    "tokenizer": "Tokenizer",
    "settings": "Settings",
}


def html(card: DataCard, tokenizer: TokenizerCard | None = None, *, name: str, about: str = "", command: str) -> str:
    """The whole page. `name` is what the corpus is called, `command` what makes this page again."""
    style = style_sheet()
    there = {"scores": card.report.scores, "tokenizer": tokenizer}
    return (
        html_environment()
        .get_template("data_card.html.jinja")
        .render(
            **_shown(card, tokenizer),
            name=name,
            about=about,
            command=command,
            policy=policy(style),
            style=style,
            funnel=pictures.funnel(card),
            lengths=pictures.lengths(card),
            scores=[pictures.scores(card, name) for name in card.report.scores],
            shares=pictures.shares(card),
            clusters=pictures.clusters(card),
            settings=dict(flat({k: v for k, v in card.corpus.manifest.config.items() if k != "sources"})),
            sections={id: title for id, title in SECTIONS.items() if there.get(id, True)},
        )
    )


def markdown(card: DataCard, tokenizer: TokenizerCard | None = None, *, command: str) -> str:
    """The same in tables, for the orchestrator's pages and for repositories."""
    template = markdown_environment().get_template("data_card.md.jinja")
    return template.render(**_shown(card, tokenizer), command=command)


def write_cards(run: Run, *paths: Path) -> DataCard:
    """Write the card of a run's corpus, to `x.md` as Markdown and else as HTML: beside the run's record, as both.

    By rename: a reader sees the old page or the new one.
    """
    card, tokenizer = cards_of(run)
    for path in paths or (run.data_card, run.data_card.with_suffix(".md")):
        write_atomically(path, page_of(run, card, tokenizer, as_markdown=path.suffix == ".md").encode())
    return card


def page_of(run: Run, card: DataCard, tokenizer: TokenizerCard | None, *, as_markdown: bool) -> str:
    """The card of this run as a page."""
    command = f"python -m lifecycle {shlex.join(['report', 'corpus', run.name])}"
    if as_markdown:
        return markdown(card, tokenizer, command=command)
    record, day = run.record, datetime.fromtimestamp(run.record.started, UTC)
    about = " · ".join(filter(None, [record.recipe.rpartition("/")[2], *record.settings, f"{day:%-d %B %Y}", run.name]))
    return html(card, tokenizer, name=run.name, about=about, command=command)


def cards_of(run: Run) -> tuple[DataCard, TokenizerCard | None]:
    """The run's corpus, and its tokenizer if it came so far."""
    folders = {stage.kind: Path(stage.path) for stage in run.stages}
    if "Corpus" not in folders:
        raise InputError(f"expected a run with a corpus, found none in {run.name}: it ended before. Name another run.")
    return card_of(folders["Corpus"]), tokenizer_card(folders["Tokenizer"]) if "Tokenizer" in folders else None


def _shown(card: DataCard, tokenizer: TokenizerCard | None) -> dict[str, Any]:
    """What both pages show."""
    return {
        "card": card,
        "report": card.report,
        "corpus": card.corpus,
        "tokenizer": tokenizer,
        "headline": headline(card),
        "summary": summary(card),
        "notices": sorted([*notices(card), *(tokenizer.notices if tokenizer else [])], key=lambda notice: notice.tone),
        "steps": [(STEPS[step.name], left(step), lost(step)) for step in card.steps],
        "reasons": [reason_shown(one) for one in card.dropped],
        "size": size,
        "shown_tokens": SHOWN_TOKENS,
        "excerpt_characters": EXCERPT_CHARACTERS,
    }


def reason_shown(found: Dropped) -> dict[str, Any]:
    """A reason in words, with examples: the first of every source, then the second of every source."""
    turns: list[tuple[int, Sample]] = []
    seen = Counter[str]()
    for sample in found.samples:
        seen[sample.source] += 1
        turns.append((seen[sample.source], sample))
    examples = [sample for _, sample in sorted(turns, key=lambda turn: turn[0])[:EXAMPLES]]
    return {"found": found, "means": meaning(found.reason), "family": family(found.reason), "examples": examples}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as `quality.gopher.min_words`; what is None is off."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "off" if value is None else value
