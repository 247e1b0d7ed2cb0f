"""Which stage a difference between two runs comes from: a table, a sentence a metric, a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lifecycle.evaluation.attribution import Effect, accounted
from lifecycle.pages.render import escaped
from lifecycle.report.figures import Axis, Mark, Row, intervals
from lifecycle.report.svg import Tone

BETWEEN = 18.0  # pixels from a panel to the next
LIMITS = (
    "The intervals are over items: what another draw of items would have moved. Another training seed moves scores "
    "too; that takes runs of their own. An effect is that of one stage with everything above it from the good run "
    "already."
)


@dataclass(frozen=True)
class Attribution:
    """What was found between a good and a bad run."""

    good: str
    bad: str
    differs: Mapping[str, str]
    effects: Sequence[Effect]
    values: Mapping[str, Sequence[float | None]]
    """Per metric its value on every rung, the bad run's first, the good one's last."""
    confidence: float

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(effect.metric for effect in self.effects))

    @property
    def sentences(self) -> list[str]:
        return [accounted(self.effects, metric) for metric in self.metrics]


def as_data(found: Attribution) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "good": found.good,
        "bad": found.bad,
        "differs": dict(found.differs),
        "confidence": found.confidence,
        "effects": [{**asdict(effect), "is_shown": effect.is_shown} for effect in found.effects],
        "values": {metric: list(values) for metric, values in found.values.items()},
        "accounted": found.sentences,
    }


def rows(found: Attribution) -> list[dict[str, str]]:
    """A row for every metric and stage, as texts."""
    return [
        {
            "metric": effect.metric,
            "taken from the good run": effect.stage,
            "moves it by": _number(effect.value),
            "interval": _interval(effect),
            "shown": "yes" if effect.is_shown else effect.fault or "no",
        }
        for effect in found.effects
    ]


def markdown(found: Attribution) -> str:
    """The page: where the difference comes from, what differs, the table."""
    lines = [f"# Which stage: {escaped(found.bad)} against {escaped(found.good)}", ""]
    lines += [f"- {escaped(sentence)}" for sentence in found.sentences]
    lines += ["", "| stage | what differs |", "|---|---|"]
    lines += [f"| {escaped(stage)} | {escaped(why)} |" for stage, why in found.differs.items()]
    table = rows(found)
    if table:
        lines += ["", f"| {' | '.join(table[0])} |", f"|{'---|' * len(table[0])}"]
        lines += [f"| {' | '.join(escaped(value) for value in row.values())} |" for row in table]
    return "\n".join([*lines, "", f"Intervals hold together at {found.confidence:.0%} confidence. {LIMITS}", ""])


def picture(found: Attribution, *, width: float = 720) -> str:
    """A forest plot a metric, each on its own scale, one below the other: by how much each stage moves it."""
    panels, y = [], 0.0
    for metric in found.metrics:
        panel = _panel(metric, [effect for effect in found.effects if effect.metric == metric], width)
        panels.append(panel.replace("<svg ", f'<svg y="{y:g}" ', 1))
        y += float(panel.partition(' height="')[2].partition('"')[0]) + BETWEEN
    size = f'viewBox="0 0 {width:g} {y:g}" width="{width:g}" height="{y:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(panels)}</svg>'


def _panel(metric: str, effects: Sequence[Effect], width: float) -> str:
    lines = [Row(e.stage, [_mark(e)], f"{_number(e.value)} {_interval(e)}") for e in effects]
    way = "higher" if effects[0].higher_is_better else "lower"
    axis = Axis(label=f"moves {metric} by ({way} is better)", show=lambda value: f"{value:+.3g}" if value else "0")
    legend: dict[str, Tone] = {"shown": "main", "not shown": "other"}
    says = accounted(effects, metric)
    return str(intervals(lines, title=metric, says=says, axis=axis, width=width, zero=True, legend=legend))


def _mark(effect: Effect) -> Mark:
    tone: Tone = "main" if effect.is_shown else "other"
    return Mark(effect.value, effect.low, effect.high, tone, effect.fault or _interval(effect))


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.4f}"


def _interval(effect: Effect) -> str:
    return "" if effect.low is None or effect.high is None else f"[{effect.low:+.4f}, {effect.high:+.4f}]"
