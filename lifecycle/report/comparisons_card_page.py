"""Comparisons as one HTML page that needs nothing else: what was read, what something shallow wins by, and pairs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from lifecycle.data.comparisons_report import ComparisonsReport
from lifecycle.data.conversations import answer_key
from lifecycle.data.jsonl import Row as Pair
from lifecycle.data.jsonl import load_rows
from lifecycle.report import figures
from lifecycle.report.comparisons_card import OWN, ComparisonsCard
from lifecycle.report.data_card_page import flat
from lifecycle.report.figures import Axis, Mark, Row, Step
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.reasons import meaning
from lifecycle.report.sealed_files import sealed_bytes
from lifecycle.report.templates import html_environment, policy, style_sheet
from lifecycle.report.text import one_line
from lifecycle.report.words import percent

SHOWN = 4  # pairs taken evenly from the file, and as many in which the longer answer was chosen
SIGNAL, LEVEL = "of the pairs", "a warning from here on"

OF_PAIRS: Mapping[str, str] = {
    "duplicate": "the prompt and both answers of another pair that stays",
    "contradiction": "another pair says the opposite; neither stays",
    "prompt_is_held_out_from_training": "a held-out pair asks the same",
    "answer_not_stopped": "a sampled answer that did not end",
    "prompt_too_long": "no room for an answer",
}


class Example(NamedTuple):
    """A pair as the page shows it."""

    id: str
    source: str
    turns: list[tuple[str, str]]
    """Role and text of the prompt."""
    chosen: str
    rejected: str


def page(card: ComparisonsCard, *, name: str, command: str) -> str:
    """The whole page. `name` is what they are called, `command` what makes this page again."""
    style, rows = style_sheet(), list(load_rows_of(card))
    return (
        html_environment()
        .get_template("comparisons_card.html.jinja")
        .render(
            card=card,
            report=card.report,
            name=one_line(name),
            command=command,
            style=style,
            policy=policy(style),
            funnel=funnel(card),
            signals=signals(card.report),
            dropped={reason: _means(reason) for reason, count in card.report.dropped.items() if count},
            examples=[example_of(row) for row in _evenly(rows, SHOWN)],
            against_length=[example_of(row) for row in _evenly([row for row in rows if _is_longer(row)], SHOWN)],
            own=OWN,
            settings=dict(flat(card.comparisons.manifest.config)),
        )
    )


def load_rows_of(card: ComparisonsCard) -> Iterator[Pair]:
    """The pairs to train on, of the bytes that were sealed."""
    sealed_bytes(card.comparisons, "train.jsonl")
    return load_rows(card.comparisons.path / "train.jsonl")


def example_of(row: Pair) -> Example:
    """A pair in words; of a turn without text, what it holds."""
    turns = [(turn["role"], str(turn.get("content") or turn)) for turn in row["prompt"]]
    return Example(str(row["id"]), row.get("source", ""), turns, answer_key(row["chosen"]), answer_key(row["rejected"]))


def funnel(card: ComparisonsCard) -> Picture:
    """Rows and pairs read, and what each rule dropped."""
    report, made = card.report, card.comparisons
    kept, lost = made.train_pairs + made.heldout_pairs, dict[str, int](report.dropped)
    steps = [
        Step("read", kept + sum(lost.values())),
        Step("distinct and allowed", kept, {reason: count for reason, count in lost.items() if count}),
        Step("to train on", made.train_pairs, {"held out to watch": made.heldout_pairs}),
    ]
    caption = "Pairs, and rows that gave none. What is held out asks other prompts than what is trained on."
    return drawn(partial(figures.funnel, steps), caption, title="From what was read to pairs")


def signals(report: ComparisonsReport) -> Picture:
    """How many pairs something shallow decides, and from where on that is a warning."""
    rows = list(_signals(report))
    legend: figures.Legend = {SIGNAL: "main", LEVEL: "limit"}
    draw = partial(figures.intervals, rows, axis=Axis("share", percent, 0.0), legend=legend)
    caption = "A model can win so many pairs without knowing what is right. Length wins half of the pairs by chance."
    return drawn(draw, caption, title="What something shallow would win")


def _signals(report: ComparisonsReport) -> Iterator[Row]:
    def row(label: str, share: float, says: str, level: float | None = None) -> Row:
        return Row(label, [Mark(share, says=f"{percent(share, 1)} {SIGNAL}")], says, level)

    short = report.lengths.shorter_is_chosen
    which, share = ("shorter", short) if short >= 0.5 else ("longer", 1 - short)
    yield row(f"the {which} answer wins", share, percent(share, 1), report.length_level)
    for name, source in report.sources.items():
        if source.lengths and len(report.sources) > 1:
            own = source.lengths.shorter_is_chosen
            share = own if which == "shorter" else 1 - own
            yield row(f"the same in {name or OWN}", share, percent(share, 1))
    if (phrase := report.phrase) is not None:
        share = max(phrase.only_in_chosen, phrase.only_in_rejected)
        side = "chosen" if phrase.only_in_chosen >= phrase.only_in_rejected else "rejected"
        label = f"“{one_line(phrase.text, 24)}” only in {side}"
        yield row(label, share, percent(share, 1), report.phrase_level)
    if report.positions.shown:
        share = report.positions.first_won / report.positions.shown
        yield row(f"the first of {report.positions.shown:,} shown wins", share, percent(share, 1))


def _means(reason: str) -> str:
    """A reason in words; its first word is the side."""
    return OF_PAIRS.get(plain := reason.partition("_")[2]) or meaning(plain)


def _is_longer(row: Pair) -> bool:
    return len(answer_key(row["chosen"])) > len(answer_key(row["rejected"]))


def _evenly(rows: Sequence[Pair], count: int) -> list[Pair]:
    """So many of the rows, from the first to the last; every reader sees the same."""
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
