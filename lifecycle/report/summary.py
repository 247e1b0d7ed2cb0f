"""An evaluation in Markdown, for the orchestrator's pages: the tables of the whole page, and where that is."""

from functools import cache
from pathlib import Path

from jinja2 import Environment

from lifecycle.artifacts import Score
from lifecycle.report.findings import Findings, Line
from lifecycle.report.page import applied, sentence, verdict
from lifecycle.report.pictures import interval
from lifecycle.report.templates import markdown_environment
from lifecycle.report.words import NOT_MEASURED, Unit


def markdown(f: Findings, *, path: Path) -> str:
    """The verdict, the rules and the scores; `path` is where the whole page lies."""
    rules = [applied(f, rule, check) for rule, check in f.checks]
    template = _environment().get_template("summary.md.jinja")
    return template.render(f=f, headline=verdict(f), summary=sentence(f), rules=rules, path=path)


def _score(score: Score | None, unit: Unit) -> str:
    return "" if score is None else interval(score, unit)


def _difference(line: Line) -> str:
    found, show = line.difference, line.unit.difference
    if found is None:
        return ""
    if found.value is None or found.low is None or found.high is None:
        return NOT_MEASURED
    return f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"


def _baselines(line: Line) -> str:
    return ", ".join(f"{name} {line.unit.show(value)}" for name, value in line.baselines.items())


@cache
def _environment() -> Environment:
    environment = markdown_environment().overlay()
    own = {"score": _score, "difference": _difference, "baselines": _baselines}
    environment.filters = {**environment.filters, **own}
    return environment
