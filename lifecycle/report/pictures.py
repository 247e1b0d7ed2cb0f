"""The pictures of an evaluation report: findings to figures, each drawn twice, for a desk and for a phone."""

from collections.abc import Sequence
from functools import partial

from lifecycle.artifacts import Check, Score
from lifecycle.report import figures
from lifecycle.report.answers import Calibration, Gap, Lengths, Path
from lifecycle.report.figures import Axis, Bar, Counts, Mark, Row, Series, Step, Tone
from lifecycle.report.findings import LIVE, Findings, Line
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.words import NOT_MEASURED, SHARE, Unit, limit, percent

TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "open", "UNMEASURED": "open"}
VERDICT_LEGEND: figures.Legend = {
    "shown to hold": "good",
    "fails": "bad",
    "not settled": "open",
    "no rule on it": "other",
    "the bar": "limit",
}


def floors(findings: Findings) -> list[Picture]:
    """How far each absolute rule is from its bar."""
    pictures = []
    for unit, lines in _by_unit(findings.wholes + _slices_with(findings, "floor", "ceiling")):
        rows = [
            Row(line.metric, [_checked(check, check.candidate, line.unit)], limit=limit(rule, higher_is_better=True))
            for line in lines
            for rule, check in line.checks
            if check.rule in ("floor", "ceiling")
        ]
        rows = [Row(row.label, row.marks, row.marks[0].says, row.limit) for row in rows]
        if rows:
            draw = partial(figures.intervals, rows, axis=Axis(unit.name, unit.tick), legend=_legend(rows))
            side = "right" if unit is SHARE else "good side"
            caption = f"Every interval must lie wholly on the {side} of its bar: then the rule is shown to hold."
            pictures.append(drawn(draw, caption, title=f"Rules on the score itself, {unit.name}"))
    return pictures


def differences(findings: Findings, lines: Sequence[Line]) -> list[Picture]:
    """A forest plot per unit: candidate minus live, on the same items."""
    pictures = []
    for unit, some in _by_unit([line for line in lines if line.difference is not None]):
        rows = [_difference(line, ruled=findings.opponent == LIVE) for line in some]
        better = "better to the right →" if some[0].score.higher_is_better else "← better to the left"
        axis = Axis(f"{unit.difference_name}; {better}", unit.difference_tick)
        draw = partial(figures.intervals, rows, axis=axis, zero=True, legend=_legend(rows))
        says = f"This model minus {findings.opponent}: " + "; ".join(f"{row.label} {row.says}" for row in rows)
        pictures.append(
            drawn(draw, "", says=says, title=f"Difference from {findings.opponent}, {unit.difference_name}")
        )
    return pictures


def scores(lines: Sequence[Line], *, what: str, confidence: float, opponent: str) -> list[Picture]:
    """Scores with their intervals, beside live and the best named baseline."""
    pictures = []
    for unit, some in _by_unit(lines):
        has_live = any(line.live is not None for line in some)
        rows = [_score(line) for line in some]
        axis = Axis(unit.name, unit.tick, 0.0, 1.0) if unit is SHARE else Axis(unit.name, unit.tick, 0.0)
        legend: figures.Legend = {"this model": "main"}
        legend = {**legend, **({opponent: "other"} if has_live else {})}
        legend = {**legend, **({"best baseline": "limit"} if any(row.limit is not None for row in rows) else {})}
        way = "Higher" if some[0].score.higher_is_better else "Lower"
        caption = f"{way} is better. Lines are {percent(confidence)} intervals: where the true score may lie."
        draw = partial(figures.intervals, rows, axis=axis, legend=legend)
        pictures.append(drawn(draw, caption, title=f"{what}, {unit.name}"))
    return pictures


def reliability(found: Calibration) -> Picture:
    """How often answers are right, against the probability the model gave them."""
    points = []
    for one in found.bins:
        says = f"said {percent(one.said, 1)}, right {percent(one.right, 1)} of {one.items:,} answers"
        points.append((one.said, Mark(one.right, one.low, one.high, says=says)))
    axis_x = Axis("probability the model gave its answer", SHARE.tick, 0.0, 1.0)
    axis_y = Axis("of these, right", SHARE.tick, 0.0, 1.0)
    series = [Series("this model", points, points_only=True)]
    most = max(found.bins, key=lambda one: one.items)
    caption = (
        f"Each point: answers of about the same probability, and how many of them were right, with its {percent(0.95)} "
        f"interval; {most.items:,} answers lie in the one at {percent(most.said)}. On the dashed line a model is right "
        f"as often as it says; below it, it is too sure of itself. Mean distance: {100 * found.gap:.1f} points."
    )
    draw = partial(figures.lines, series, x=axis_x, y=axis_y, diagonal=True)
    return drawn(draw, caption, title=f"{found.suite}, most likely answers")


def length(found: Lengths, *, opponent: str) -> Picture:
    counts = [Counts("this model", found.shares)]
    middle = f"Half of the answers have at most {found.median:g} tokens"
    if found.live_shares is not None:
        counts.append(Counts(opponent, found.live_shares, "other"))
        middle += f"; of those of {opponent}, {found.live_median:g}"
    axis = Axis("tokens in an answer, the stop token counted", "{:g}".format)
    draw = partial(figures.histogram, found.edges, counts, x=axis, y=Axis("share of answers", SHARE.tick))
    return drawn(draw, f"{middle}.", title=f"Length, {found.suite}, {found.mode}")


def path(found: Path) -> Picture:
    """Where answers are lost, step by step."""
    names = {"measured": "could be measured", "stopped": "ended by itself", "correct": "right"}
    names["exact"] = "right, and not a word more"
    steps = [Step(names.get(step.name, step.name), step.left, step.lost) for step in found.steps]
    caption = "Each bar counts the items that also passed every bar above it."
    return drawn(partial(figures.funnel, steps), caption, title=f"From asked to right, {found.suite}, {found.mode}")


def missing(gaps: Sequence[Gap]) -> Picture:
    rows = [Bar(f"{gap.suite}, {gap.mode}: {gap.reason}", gap.items, "open", f"{gap.items:,}") for gap in gaps]
    caption = "Items without a score. They count neither as right nor as wrong: every interval is widened for them."
    return drawn(partial(figures.bars, rows), caption, title="Items that could not be measured, by reason")


def _difference(line: Line, *, ruled: bool) -> Row:
    found, guard = line.difference, line.check("guard", "target") if ruled else None
    assert found is not None
    tone: Tone = TONES[guard[1].verdict] if guard else "other"
    bar = limit(guard[0], higher_is_better=line.score.higher_is_better) if guard else None
    show = line.unit.difference
    if found.value is None or found.low is None or found.high is None:
        return Row(line.label, [Mark(None, tone="open", says=found.fault or "")], NOT_MEASURED, bar)
    says = f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"
    return Row(line.label, [Mark(found.value, found.low, found.high, tone)], says, bar)


def _score(line: Line) -> Row:
    marks = [_mark(line.score, "main", line.unit)]
    if line.live is not None:
        marks.append(_mark(line.live, "other", line.unit))
    best = max if line.score.higher_is_better else min
    return Row(line.label, marks, interval(line.score, line.unit), best(line.baselines.values(), default=None))


def _mark(score: Score, tone: Tone, unit: Unit) -> Mark:
    return Mark(score.mean, score.low, score.high, tone, interval(score, unit))


def _checked(check: Check, value: float | None, unit: Unit) -> Mark:
    says = NOT_MEASURED if value is None else unit.show(value)
    if check.low is not None and check.high is not None:
        says += f" [{unit.end(check.low)}, {unit.end(check.high)}]"
    return Mark(value, check.low, check.high, TONES[check.verdict], says)


def interval(score: Score, unit: Unit) -> str:
    """`95.7 % [94.5, 96.6]`, or that it was not measured."""
    if score.mean is None:
        return NOT_MEASURED
    if score.low is None or score.high is None:
        return unit.show(score.mean)
    return f"{unit.show(score.mean)} [{unit.end(score.low)}, {unit.end(score.high)}]"


def _by_unit(lines: Sequence[Line]) -> list[tuple[Unit, list[Line]]]:
    """Lines that can share an axis."""
    found: dict[tuple[str, bool], tuple[Unit, list[Line]]] = {}
    for line in lines:
        found.setdefault((line.unit.name, line.score.higher_is_better), (line.unit, []))[1].append(line)
    return list(found.values())


def _slices_with(findings: Findings, *kinds: str) -> list[Line]:
    return [line for line in findings.lines.values() if line.slice_of is not None and line.check(*kinds)]


def _legend(rows: Sequence[Row]) -> figures.Legend:
    """Only what is seen."""
    tones = {mark.tone for row in rows for mark in row.marks}
    bars = {"limit"} if any(row.limit is not None for row in rows) else set[str]()
    return {label: tone for label, tone in VERDICT_LEGEND.items() if tone in tones | bars}
