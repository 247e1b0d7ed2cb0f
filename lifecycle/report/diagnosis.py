"""A diagnosis in words: for people (rich) and for programs (JSON)."""

from functools import cache
from typing import Any

from jinja2 import Environment
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lifecycle.diagnosis.readings import Knob, Reading
from lifecycle.diagnosis.verdict import ENDED_WELL, HEALTHY, Diagnosis, Ranked
from lifecycle.report.key_numbers import duration
from lifecycle.report.templates import markdown_environment

TITLES = {
    "knowledge": "knowledge: the base never learned it",
    "behaviour": "behaviour: it was not shown how",
    "protocol": "protocol: taught one way of speaking, asked in another",
    "preference": "preference: it learned the wrong thing to like",
    "runtime": "memory and runtime: not what was asked for was trained",
    "eval_blindness": "eval blindness: the evaluation cannot tell",
    HEALTHY: "healthy: no probe sees a cause",
}
LIKELY = 0.1  # below it a problem is listed with one line


def screen(found: Diagnosis) -> RenderableType:
    """The ranked answer, the evidence behind it, what to change, and what could not be looked at."""
    parts: list[RenderableType] = [_table(found)]
    parts += [_panel(found, each) for each in found.ranking if each.readings and each.probability >= LIKELY]
    if found.unmeasured:
        parts.append(Text("could not look (counted as neither good nor bad):", style="bold"))
        parts += [Text(f"  {', '.join(names)}: {why}", style="dim") for why, names in blind(found).items()]
    return Group(*parts)


def headline(found: Diagnosis) -> str:
    """The answer in one line. That nothing was seen is no praise: a run may have failed where no probe looks."""
    first = found.first
    if first.problem == HEALTHY:
        how = f"{first.probability:.0%} healthy" if found.state in ENDED_WELL else f"the run ended {found.state}"
        return f"no probe sees a cause ({how})"
    where = f", change {first.stage}" if first.stage else ""
    return f"most likely {TITLES[first.problem]} ({first.probability:.0%}{where})"


def markdown(found: Diagnosis) -> str:
    """The ranked answer for the orchestrator's pages."""
    return _environment().get_template("diagnosis.md.jinja").render(found=found, headline=headline(found))


def as_data(found: Diagnosis) -> dict[str, Any]:
    """The same, for programs."""
    return {"headline": headline(found), **found.model_dump(mode="json")}


def blind(found: Diagnosis) -> dict[str, list[str]]:
    """Why probes could not look, and which they are: many wait for the same thing."""
    reasons: dict[str, list[str]] = {}
    for each in found.unmeasured:
        reasons.setdefault(each.why, []).append(each.probe)
    return reasons


def price(knob: Knob) -> str:
    """What it costs to try, in time."""
    return "price not known" if knob.seconds is None else f"about {duration(knob.seconds)}"


def accounts_for(reading: Reading, found: Diagnosis) -> str:
    """How much of what failed a reading explains, at most: what mending it can gain."""
    if reading.failing is None or not found.asked:
        return ""
    return f"at most {reading.failing / found.asked:+.1%} of all answers right"


def _table(found: Diagnosis) -> Table:
    wrong = f", {found.failing} of {found.asked} answers wrong" if found.asked else ""
    title = f"{found.run}: {found.state}{wrong}"
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("", justify="right")
    table.add_column("problem", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("strongest evidence", overflow="fold")
    for each in found.ranking:
        style = "bold" if each is found.first else "" if each.probability >= LIKELY else "dim"
        evidence = each.readings[0].says if each.readings else ""
        table.add_row(
            f"{each.probability:.0%}", each.problem.replace("_", " "), each.stage or "", Text(evidence), style=style
        )
    return table


def _panel(found: Diagnosis, each: Ranked) -> Panel:
    lines: list[RenderableType] = []
    for reading in each.readings:
        gain = accounts_for(reading, found)
        lines.append(Text(f"{reading.probe} {reading.strength:.2f}: {reading.says}", style="bold"))
        lines.append(Text(f"  from {reading.source}" + (f"; {gain}" if gain else ""), style="dim"))
        lines += [Text(f"  {example}") for example in reading.examples]
        lines.append(Text(f"  it is not this, if: {reading.refuted_by}", style="dim"))
    for number, knob in enumerate(each.knobs, 1):
        settings = "".join(f" --set {setting}" for setting in knob.settings)
        lines.append(Text(f"{number}. {knob.change}: {price(knob)}, from {knob.stage} on{settings}", style="green"))
    return Panel(Group(*lines), title=TITLES[each.problem], title_align="left", border_style="yellow")


@cache
def _environment() -> Environment:
    environment = markdown_environment().overlay()
    environment.filters = {**environment.filters, "price": price}
    environment.tests = {**environment.tests, "likely": lambda each: each.probability >= LIKELY}
    return environment
