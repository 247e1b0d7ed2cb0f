"""The pictures of a data card: a corpus's report to figures, each drawn twice, for a desk and for a phone."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from lifecycle.data.corpus_report import Histogram
from lifecycle.report import figures
from lifecycle.report.data_card import Card, DataCard, left, lost, together
from lifecycle.report.figures import Axis, Bar, Counts, Mark, Row, Step
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.words import percent

REASONS_A_STEP = 5
SHOWN_SOURCES = 12
CLUSTER_BINS = (2, 3, 4, 5, 10, 20, 50, 100, 1_000, 10_000)
SCORES: Mapping[str, str] = {"language": "probability of the language found"}
BEFORE, AFTER, ASKED = "of the rows read", "of the training text", "asked for"


def funnel(card: Card) -> Picture:
    """What is left after each step, and what each dropped."""
    steps = [Step("rows read", card.read.documents)]
    steps += [Step(card.labels[step.name], left(step).documents, _few(lost(step))) for step in card.steps]
    caption = f"{card.unit[0].upper()}{card.unit[1:]}. Each bar counts what also passed every bar above it."
    if card.off:
        caption += f" Off: {', '.join(name.replace('_', ' ') for name in card.off)}."
    return drawn(partial(figures.funnel, steps), caption, title=f"From rows to {card.unit}")


def lengths(card: Card) -> list[Picture]:
    """How long documents are, those kept and those dropped: of all sources, then of each."""
    axis = Axis(f"characters in a {card.unit.removesuffix('s')}", lambda power: f"{2**power:,.0f}")
    pictures = []
    for source, found in _of_all_and_each(card.report.lengths):
        caption = f"Of {sum(found.kept):,} {card.unit} kept, half have at most {_middle(found, found.kept)} characters"
        if any(found.dropped):
            caption += f"; of {sum(found.dropped):,} dropped, at most {_middle(found, found.dropped)}"
        places = [math.log2(max(edge, 0.5)) for edge in found.edges]
        title = f"Length of {card.unit}, {source}"
        pictures.append(_histogram(found, places, axis, f"{caption}.", title=title, unit=card.unit))
    return pictures


def scores(card: DataCard, name: str) -> list[Picture]:
    """How a score is distributed over documents kept and dropped: of all sources, then of each."""
    label, bar = SCORES.get(name, name.replace("_", " ")), _bar_of(card, name)
    pictures = []
    for source, found in _of_all_and_each(card.report.scores[name]):
        caption = f"{sum(found.kept):,} documents kept, {sum(found.dropped):,} dropped, for this or any other reason."
        if bar is not None:
            caption += f" The rule drops below {bar:g}."
        axis = Axis(label, "{:g}".format)
        title = f"{label[0].upper()}{label[1:]}, {source}"
        pictures.append(_histogram(found, found.edges, axis, caption, title=title))
    return pictures


def shares(card: DataCard) -> Picture:
    """Each source's part of what was read and of what is trained on, in bytes."""
    rows, read = [], max(1, card.read.bytes)
    for source in card.sources[: 2 * SHOWN_SOURCES]:
        after = card.report.mixture.sources[source.name]
        before = source.read.bytes / read
        says = f"{percent(before, 1)} → {percent(after.share, 1)}"
        marks = [
            Mark(before, tone="other", says=f"{percent(before, 1)} {BEFORE}"),
            Mark(after.share, says=f"{percent(after.share, 1)} {AFTER}"),
        ]
        rows.append(Row(source.name, marks, says, after.asked_share))
    legend: figures.Legend = {BEFORE: "other", AFTER: "main"}
    if any(row.limit is not None for row in rows):
        legend = {**legend, ASKED: "limit"}
    caption = "Bytes of text, before any step and after the last; repetitions count as often as they are read."
    draw = partial(figures.intervals, rows, axis=Axis("share", percent, 0.0), legend=legend)
    return drawn(draw, caption, title="Source shares before and after")


def clusters(card: Card) -> Picture | None:
    """How many near-duplicates belong together."""
    near = card.report.near_duplicates
    if near is None or not near.cluster_sizes:
        return None
    rows = []
    for first, after in zip(CLUSTER_BINS, [*CLUSTER_BINS[1:], math.inf], strict=True):
        found = sum(count for size, count in near.cluster_sizes.items() if first <= size < after)
        if found:
            rows.append(Bar(f"{_sizes(first, after)} {card.unit}", found, says=f"{found:,}"))
    caption = (
        f"{near.clusters:,} clusters of {near.documents:,} {card.unit}; "
        f"{'all of them stay, as asked' if card.keeps_near_duplicates else 'one of each stays'}. "
        f"The largest has {max(near.cluster_sizes):,}."
    )
    return drawn(partial(figures.bars, rows), caption, title="Clusters of near-duplicates by size")


def _of_all_and_each(found: Mapping[str, Histogram]) -> list[tuple[str, Histogram]]:
    """All sources together, where there are several, and the first of them one by one."""
    some = list(found.items())[:SHOWN_SOURCES]
    whole = together(list(found.values())) if len(some) > 1 else None
    return some if whole is None else [("all sources", whole), *some]


def _bar_of(card: DataCard, score: str) -> float | None:
    """Where the rule on a score draws its line."""
    rule = card.corpus.manifest.config.get(score)
    return rule.get("min_score") if isinstance(rule, Mapping) else None


def _histogram(
    found: Histogram, places: Sequence[float], x: Axis, caption: str, *, title: str, unit: str = "documents"
) -> Picture:
    """Documents kept as bars, documents dropped as an outline, each as shares: few drops would not be seen as counts.

    The empty bins at both ends are left out.
    """
    used = [i for i, both in enumerate(zip(found.kept, found.dropped, strict=True)) if any(both)] or [0]
    first, last = used[0], used[-1] + 1
    counts = [Counts(f"of {unit} kept", _of_whole(found.kept[first:last]))]
    if any(found.dropped):
        counts.append(Counts(f"of {unit} dropped", _of_whole(found.dropped[first:last]), "bad"))
    draw = partial(figures.histogram, places[first : last + 1], counts, x=x, y=Axis("share", percent))
    return drawn(draw, caption, title=title)


def _of_whole(counts: Sequence[int]) -> list[float]:
    return [count / max(1, sum(counts)) for count in counts]


def _middle(found: Histogram, counts: Sequence[int]) -> str:
    """Up to which edge half of the documents lie: a histogram knows no more."""
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if 2 * seen >= sum(counts) > 0:
            return f"{found.edges[index + 1]:,.0f}"
    return "0"


def _few(reasons: Mapping[str, int]) -> dict[str, int]:
    """The commonest reasons by name, the others as one line."""
    shown = dict(list(reasons.items())[:REASONS_A_STEP])
    if rest := len(reasons) - len(shown):
        shown[f"for {rest} rarer reason{'s' if rest > 1 else ''}"] = sum(reasons.values()) - sum(shown.values())
    return shown


def _sizes(first: int, after: float) -> str:
    if after == first + 1:
        return f"{first}"
    return f"{first:,} and more" if math.isinf(after) else f"{first:,} to {after - 1:,.0f}"
