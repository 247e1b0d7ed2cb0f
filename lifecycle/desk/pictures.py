"""The pictures of a desk's summary."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise

from lifecycle.desk.findings import Findings, Voter
from lifecycle.evaluation.agreement import Estimate
from lifecycle.report import figures
from lifecycle.report.figures import Axis, Bar, Mark, Row
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.words import NOT_MEASURED, SHARE, percent

EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)  # seconds, each bin about twice as wide as the one before
WORDS = {"left": "left answer", "right": "right answer", "tie": "tie", "both_bad": "both bad", "skip": "skipped"}
EVEN = 0.5


def of(found: Findings) -> list[Picture]:
    """Every picture there is something to draw for."""
    pictures = [_wins(found.wins)] if found.wins else []
    if found.everybody.votes:
        pictures += [_bias(found), _trust(found), _votes(found), _choices(found)]
    if found.seconds:
        pictures.append(_seconds(found))
    if found.tags:
        rows = [Bar(tag, float(count), says=f"{count:,}") for tag, count in found.tags.items()]
        pictures.append(drawn(partial(figures.bars, rows), "How often each was ticked.", title="Reasons given"))
    return pictures


def value(estimate: Estimate) -> str:
    """`71.2 %`, or that it was not measured."""
    return NOT_MEASURED if estimate.value is None else SHARE.show(estimate.value)


def ends(estimate: Estimate) -> str:
    """`60.1 to 80.4`, or that there is no interval."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{SHARE.end(estimate.low)} to {SHARE.end(estimate.high)}"


def alpha(estimate: Estimate) -> str:
    """`0.62`, or that it was not measured."""
    return NOT_MEASURED if estimate.value is None else number(estimate.value)


def number(value: float) -> str:
    """With two decimals and a proper minus."""
    return f"{value:.2f}".replace("-", "−")


WORDING = {"alpha": alpha, "share": value, "ends": ends, "number": number}
"""What the template of the summary writes numbers with."""


def _wins(wins: Mapping[str, Estimate]) -> Picture:
    caption = (
        "How often each system is preferred to another one (Bradley-Terry; a tie is half a win for both). Lines are "
        f"{percent(0.95)} intervals over prompts: one that crosses the bar is no win yet."
    )
    rows = [_row(name, rate) for name, rate in sorted(wins.items(), key=lambda pair: -(pair[1].value or 0))]
    return _intervals(rows, caption, title="Win rate by system")


def _bias(found: Findings) -> Picture:
    rows = [
        _row("left answer preferred", found.everybody.left),
        _row("longer answer preferred", found.everybody.longer),
        *(_row(f"{voter.name}: left", voter.left) for voter in found.voters),
        *(_row(f"{voter.name}: longer", voter.longer) for voter in found.voters),
    ]
    caption = (
        "Sides are drawn by chance, so an interval that misses the bar at the left shows a habit, not a preference. "
        "Longer answers may be better ones; a model trained on these votes will learn to be longer all the same."
    )
    return _intervals(rows, caption, title="Position and length")


def _trust(found: Findings) -> Picture:
    rows = [
        _row("decided as before, sides swapped", found.everybody.again),
        _row("gold items right", found.everybody.gold),
    ]
    rows += [_row(f"{voter.name}: as before", voter.again) for voter in found.voters]
    rows += [_row(f"{voter.name}: gold", voter.gold) for voter in found.voters]
    caption = (
        f"In {found.same_side:,} of {found.everybody.again.of:,} repetitions the side was kept and not the answer."
    )
    return _intervals(rows, caption, title="Self-agreement and gold items")


def _votes(found: Findings) -> Picture:
    rows = [Bar(voter.name, float(voter.votes), says=_paced(voter)) for voter in found.voters]
    caption = "Votes that count, and the median time of a decision while the page was in sight."
    return drawn(partial(figures.bars, rows), caption, title="Votes by annotator")


def _paced(voter: Voter) -> str:
    return f"{voter.votes:,}" + ("" if voter.seconds is None else f", {voter.seconds.median:.1f} s each")


def _choices(found: Findings) -> Picture:
    rows = [Bar(WORDS[choice], float(count), says=f"{count:,}") for choice, count in found.choices.items()]
    undone = "1 vote was" if found.undone == 1 else f"{found.undone:,} votes were"
    caption = f"{undone} taken back since: still on record, but not counted."
    return drawn(partial(figures.bars, rows), caption, title="What was chosen")


def _seconds(found: Findings) -> Picture:
    most = max(EDGES[-1], max(found.seconds))
    edges = [*EDGES[:-1], most]
    inside = [sum(low <= second < high for second in found.seconds) for low, high in pairwise(edges)]
    inside[-1] += sum(second == most for second in found.seconds)
    rows = [
        Bar(_between(low, high, most), float(count), says=percent(count / len(found.seconds)))
        for (low, high), count in zip(pairwise(edges), inside, strict=True)
    ]
    caption = f"Of {len(found.seconds):,} decisions. Many under two seconds were hardly read."
    return drawn(partial(figures.bars, rows), caption, title="Time for a decision")


def _between(low: float, high: float, most: float) -> str:
    return f"{low:g} s and more" if high == most else f"{low:g} to {high:g} s"


def _row(name: str, estimate: Estimate) -> Row:
    mark = Mark(estimate.value, estimate.low, estimate.high, "main" if estimate.value is not None else "open")
    says = value(estimate) if estimate.value is None else f"{value(estimate)} [{ends(estimate).replace(' to ', ', ')}]"
    return Row(name, [mark], says, EVEN)


def _intervals(rows: list[Row], caption: str, *, title: str) -> Picture:
    draw = partial(figures.intervals, rows, axis=Axis("", SHARE.tick, 0.0, 1.0), legend={"even": "limit"})
    says = f"{caption} " + "; ".join(f"{row.label} {row.says}" for row in rows)
    return drawn(draw, caption, title=title, says=says)
