"""Data to SVG, five kinds of picture: bars, intervals, lines, histograms, funnels.

Each function returns one self-contained `<svg>` of a given width in CSS pixels, its text readable at that width: a page
draws a picture twice, for a desk and for a phone. `title` says what it is, `says` what it shows, in words.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from lifecycle.report.svg import TEXT, Axis, Canvas, Scale, Tone, fit, text_width

__all__ = [
    "Axis",
    "Bar",
    "Counts",
    "Mark",
    "Row",
    "Series",
    "Step",
    "Tone",
    "bars",
    "funnel",
    "histogram",
    "intervals",
    "lines",
]

NARROW = 480  # below it a label stands above its marks, not beside them
Legend = Mapping[str, Tone | Literal["limit"]]


@dataclass(frozen=True)
class Mark:
    """A value with its interval; None where nothing was measured."""

    value: float | None
    low: float | None = None
    high: float | None = None
    tone: Tone = "main"
    says: str = ""

    @property
    def numbers(self) -> list[float]:
        numbers = (self.value, self.low, self.high)
        return [number for number in numbers if number is not None and math.isfinite(number)]


@dataclass(frozen=True)
class Row:
    """One line of an interval plot: a name, its marks, the bar it must clear, and what stands at its right."""

    label: str
    marks: Sequence[Mark]
    says: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    tone: Tone = "main"
    says: str = ""


@dataclass(frozen=True)
class Series:
    """A curve, or with `points_only` points with intervals."""

    label: str
    marks: Sequence[tuple[float, Mark]]
    tone: Tone = "main"
    points_only: bool = False


@dataclass(frozen=True)
class Counts:
    """How much falls into each bin of a histogram."""

    label: str
    shares: Sequence[float]
    tone: Tone = "main"


@dataclass(frozen=True)
class Step:
    """What is left after one step of a funnel, and what left in it, by reason."""

    label: str
    left: int
    lost: Mapping[str, int] = field(default_factory=dict)


def intervals(
    rows: Sequence[Row],
    *,
    title: str,
    says: str,
    axis: Axis,
    width: float = 720,
    zero: bool = False,
    legend: Legend | None = None,
) -> Markup:
    """A forest plot: a line per row with its values and intervals. `zero` draws the line of no difference."""
    canvas, narrow = Canvas(width), width < NARROW
    numbers = [
        n for row in rows for n in (*(x for mark in row.marks for x in mark.numbers), row.limit) if n is not None
    ]
    labels, values = _columns([row.label for row in rows], [row.says for row in rows], width)
    start, end = (6.0, width - 6.0) if narrow else (labels + 12, width - values - 14)
    scale = Scale(*axis.range([*numbers, 0.0] if zero else numbers), start, end)
    y = top = canvas.legend(legend or {}, 12.0)
    tall = [(24 if narrow else 9) + 15 * max(1, len(row.marks)) for row in rows]
    if not narrow:
        _grid(canvas, scale, axis, top, top + sum(tall) + 2, zero=zero)
    for row, height in zip(rows, tall, strict=True):
        first = y + (28 if narrow else 12)
        text_y = y + 14 if narrow else y + height / 2 + 4
        room = width - text_width(row.says) - 14 if narrow else labels
        canvas.text(0, text_y, fit(row.label, room))
        canvas.text(width, text_y, row.says, tone="quiet", text_anchor="end", font_variant_numeric="tabular-nums")
        if narrow:  # beside the words, not through them
            _grid(canvas, scale, axis, first - 8, first + 15 * len(row.marks) - 6, zero=zero)
        if row.limit is not None:
            at = scale(row.limit)
            canvas.line(at, first - 8, at, first + 15 * len(row.marks) - 7, tone="ink", stroke_width=2)
        for number, mark in enumerate(row.marks):
            _interval(canvas, scale, mark, first + 15 * number, f"{row.label}: {mark.says or row.says}")
        y += height
    return canvas.svg(_axis_words(canvas, scale, axis, y + 2), title=title, says=says)


def bars(rows: Sequence[Bar], *, title: str, says: str, width: float = 720) -> Markup:
    """Horizontal bars from zero, each with its number at the right."""
    canvas, narrow = Canvas(width), width < NARROW
    labels, values = _columns([row.label for row in rows], [row.says for row in rows], width)
    start, end = (0.0, width) if narrow else (labels + 12, width - values - 14)
    scale = Scale(0.0, max([row.value for row in rows], default=0.0) or 1.0, start, end)
    height = 38 if narrow else 24
    for number, row in enumerate(rows):
        y = height * number
        text_y = y + 13 if narrow else y + 16
        canvas.text(0, text_y, fit(row.label, width - text_width(row.says) - 14 if narrow else labels))
        canvas.text(width, text_y, row.says, tone="quiet", text_anchor="end", font_variant_numeric="tabular-nums")
        box = (start, y + (19 if narrow else 5), scale(row.value) - start, 13)
        canvas.rect(*box, tone=row.tone, says=f"{row.label}: {row.says}", rx=2)
    return canvas.svg(height * len(rows), title=title, says=says)


def lines(
    series: Sequence[Series],
    *,
    title: str,
    says: str,
    x: Axis,
    y: Axis,
    width: float = 720,
    height: float = 300,
    diagonal: bool = False,
) -> Markup:
    """Curves, or points with upright intervals, over two axes. `diagonal` draws where x equals y."""
    canvas = Canvas(width)
    top = canvas.legend({one.label: one.tone for one in series} if len(series) > 1 else {}, 12.0) + 6
    places = [at for one in series for at, _ in one.marks]
    values = [number for one in series for _, mark in one.marks for number in mark.numbers]
    across, up = _frame(canvas, x, y, places, values, top, height)
    if diagonal:
        low, high = max(across.low, up.low), min(across.high, up.high)
        canvas.line(across(low), up(low), across(high), up(high), tone="quiet", stroke_dasharray="3 4")
    for one in series:
        known = [(across(at), mark) for at, mark in one.marks if mark.numbers]
        if not one.points_only:
            canvas.path([(at, up(mark.numbers[0])) for at, mark in known], tone=one.tone, stroke_width=1.8)
        for at, mark in known if one.points_only else ():
            if mark.low is not None and mark.high is not None:
                canvas.line(at, up(mark.low), at, up(mark.high), tone=one.tone, stroke_width=2)
            canvas.mark(at, up(mark.numbers[0]), one.tone, says=mark.says)
    return canvas.svg(height, title=title, says=says)


def histogram(
    edges: Sequence[float],
    counts: Sequence[Counts],
    *,
    title: str,
    says: str,
    x: Axis,
    y: Axis,
    width: float = 720,
    height: float = 220,
) -> Markup:
    """What falls between each two edges: the first counts as filled bars, the others as outlines over them."""
    canvas = Canvas(width)
    top = canvas.legend({one.label: one.tone for one in counts} if len(counts) > 1 else {}, 12.0) + 6
    y = Axis(y.label, y.show, 0.0, y.high)
    across, up = _frame(canvas, Axis(x.label, x.show, edges[0], edges[-1]), y, edges, _all(counts), top, height)
    bins = list(itertools.pairwise(edges))
    for number, one in enumerate(counts):
        outline = [(across(edges[0]), up(0))]
        for (left, right), share in zip(bins, one.shares, strict=True):
            outline += [(across(left), up(share)), (across(right), up(share))]
            if number == 0:
                where = f"{one.label}: {y.show(share)} from {x.show(left)} up to {x.show(right)}"
                box = (across(left) + 0.5, up(share), across(right) - across(left) - 1, up(0) - up(share))
                canvas.rect(*box, tone=one.tone, says=where, fill_opacity=0.8)
        if number > 0:
            canvas.path([*outline, (across(edges[-1]), up(0))], tone=one.tone, stroke_width=2)
    return canvas.svg(height, title=title, says=says)


def funnel(steps: Sequence[Step], *, title: str, says: str, width: float = 720) -> Markup:
    """What is left step by step, as bars of one scale, and under each what left there and why."""
    canvas, y, whole = Canvas(width), 0.0, max([step.left for step in steps], default=0) or 1
    for step in steps:
        share = step.left / whole
        count = f"{step.left:,} ({share:.1%})" if step is not steps[0] else f"{step.left:,}"
        canvas.text(0, y + 13, fit(step.label, width - text_width(count) - 14))
        canvas.text(width, y + 13, count, tone="quiet", text_anchor="end", font_variant_numeric="tabular-nums")
        canvas.rect(0, y + 20, width, 12, tone="rule", rx=2, fill_opacity=0.5)
        canvas.rect(0, y + 20, width * share, 12, tone="main", says=f"{step.label}: {count}", rx=2)
        y += 44
        for reason, lost in step.lost.items():
            canvas.text(14, y + 3, fit(f"− {lost:,} {reason}", width - 14), tone="quiet", size=TEXT - 1)
            y += 18
    return canvas.svg(y, title=title, says=says)


def _all(counts: Sequence[Counts]) -> list[float]:
    return [share for one in counts for share in one.shares]


def _columns(labels: Sequence[str], values: Sequence[str], width: float) -> tuple[float, float]:
    """How wide the labels at the left and the numbers at the right may be."""
    longest = max((text_width(label) for label in labels), default=0.0)
    return min(longest, 0.36 * width), max((text_width(value) for value in values), default=0.0)


def _interval(canvas: Canvas, scale: Scale, mark: Mark, y: float, says: str) -> None:
    """A value on its interval; arrow heads where the interval goes on beyond the scale."""
    if mark.value is None or not math.isfinite(mark.value):
        canvas.cross((scale.start + scale.end) / 2, y, says=says)
        return
    if mark.low is not None and mark.high is not None:
        canvas.line(scale(mark.low), y, scale(mark.high), y, tone=mark.tone, stroke_width=2)
        for end, way in ((mark.low, 1), (mark.high, -1)):
            if not scale.low <= end <= scale.high:
                at = scale(end)
                canvas.path([(at + 5 * way, y - 4), (at, y), (at + 5 * way, y + 4)], tone=mark.tone, stroke_width=2)
    canvas.mark(scale(mark.value), y, mark.tone, says=says)


def _grid(canvas: Canvas, scale: Scale, axis: Axis, top: float, bottom: float, *, zero: bool = False) -> None:
    for tick in scale.ticks(_ticks_in(scale, axis)):
        canvas.line(scale(tick), top, scale(tick), bottom)
    if zero and scale.low <= 0 <= scale.high:
        canvas.line(scale(0.0), top, scale(0.0), bottom, tone="quiet", stroke_width=1.4)


def _axis_words(canvas: Canvas, scale: Scale, axis: Axis, y: float) -> float:
    """Numbers and a name under a horizontal axis; returns where they end."""
    for tick in scale.ticks(_ticks_in(scale, axis)):
        words, at = axis.show(tick), scale(tick)
        half = text_width(words) / 2
        canvas.text(min(max(at, half), canvas.width - half), y + 14, words, tone="quiet", text_anchor="middle")
    if not axis.label:
        return y + 20
    canvas.text((scale.start + scale.end) / 2, y + 34, axis.label, tone="quiet", text_anchor="middle")
    return y + 42


def _ticks_in(scale: Scale, axis: Axis) -> int:
    widest = max(text_width(axis.show(value)) for value in (scale.low, scale.high))
    return int(min(8, max(2, (scale.end - scale.start) / (widest + 24))))


def _frame(
    canvas: Canvas, x: Axis, y: Axis, places: Sequence[float], values: Sequence[float], top: float, height: float
) -> tuple[Scale, Scale]:
    """The grid and the words around a plot with two axes, and its scales."""
    bottom = height - (42 if x.label else 22)
    top += 18 if y.label else 4
    up = Scale(*y.range(values), bottom, top)
    ticks = up.ticks(5)
    left = max(text_width(y.show(tick)) for tick in ticks) + 12
    across = Scale(*x.range(places), left, canvas.width - 8)
    if y.label:
        canvas.text(0, top - 10, y.label, tone="quiet")
    for tick in ticks:
        canvas.line(left, up(tick), canvas.width - 8, up(tick))
        canvas.text(left - 8, up(tick) + 4, y.show(tick), tone="quiet", text_anchor="end")
    _axis_words(canvas, across, x, bottom)
    return across, up
