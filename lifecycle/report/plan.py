"""The gate's plan for people: how many items every rule needs, and how often the policy errs on this user's suites."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lifecycle.evaluation.evidence import Evidence
from lifecycle.evaluation.looks import decides_once, suite_of
from lifecycle.evaluation.pilot import Pilot, pilot
from lifecycle.evaluation.power import Rates, needed, simulate
from lifecycle.evaluation.rules import Rule

PERCENT = ("promoted", "blocked", "inconclusive")


def plan(
    rules: Sequence[Rule],
    found: Mapping[str, Evidence],
    live: Mapping[str, Evidence] | None,
    *,
    alpha: float,
    looks: int,
    histories: int,
) -> dict[str, Any]:
    """The plan as data: one row a rule, and the rates of the policy with the items it has, and with those it needs."""
    seen = [pilot(rule, found, live) for rule in rules]
    known = [each for each in seen if isinstance(each, Pilot)]
    numbers = iter(needed(known, alpha, looks) if known else [])
    rows = []
    for rule, each in zip(rules, seen, strict=True):
        row: dict[str, Any] = {"rule": rule.kind, "metric": rule.metric, "required": rule.required, "now": rule.items}
        if isinstance(each, Pilot):
            row |= {"available": each.available, "needed": next(numbers), "spread": round(each.spread, 4)}
            row |= {"missing": each.missing, "items_that_count_as_one": round(each.effect, 2), "fault": None}
        else:
            row |= {"available": None, "needed": None, "fault": each}
        rows.append(row)
    result: dict[str, Any] = {"alpha": alpha, "looks": looks, "histories": histories, "rules": rows}
    if known and len(known) == len(rules):
        as_it_is = [_with_items(each, each.rule.items or each.available) for each in known]
        result["as_it_is"] = _rates(simulate(as_it_is, alpha, looks, histories=histories))
        if all(row["needed"] for row in rows):
            by_suite: dict[str, int] = {}
            for rule, row in zip(rules, rows, strict=True):
                if not decides_once(rule, looks):  # its documents are as many as there are
                    by_suite[suite_of(rule.metric)] = max(row["needed"], by_suite.get(suite_of(rule.metric), 0))
            planned = [_with_items(each, by_suite.get(suite_of(each.rule.metric), each.available)) for each in known]
            result["items_by_suite"] = by_suite
            result["as_planned"] = _rates(simulate(planned, alpha, looks, histories=histories))
    return result


def screen(data: Mapping[str, Any], source: str) -> RenderableType:
    """The plan as tables."""
    level = f"{100 * data['alpha']:.3g} %"
    rules = Table(
        title=f"Items each rule needs for {level}, {data['looks']} looks (from {source})", title_justify="left"
    )
    for column in ("rule", "metric", "planned now", "in the pilot", "needed", ""):
        rules.add_column(column, justify="right" if column in ("planned now", "in the pilot", "needed") else "left")
    for row in data["rules"]:
        said = row["fault"] or ("" if row["needed"] else "no number of items would do")
        if row.get("missing"):
            said += f"{100 * row['missing']:.1f} % could not be measured"
        rules.add_row(row["rule"], row["metric"], *(_count(row[k]) for k in ("now", "available", "needed")), said)
    parts: list[RenderableType] = [rules]
    for key, title in (("as_it_is", "With the items there are"), ("as_planned", "With the items needed")):
        if key in data:
            parts += ["", _rates_table(data[key], title, data["histories"])]
    if "items_by_suite" in data:
        wanted = ", ".join(f"{suite}: items={items}" for suite, items in data["items_by_suite"].items())
        parts += ["", f"To plan so, give each rule of a suite its number: {wanted}"]
    if "as_it_is" not in data:
        parts += ["", "No rates: a rule without a pilot can do anything."]
    return Group(*parts)


def _with_items(each: Pilot, items: int) -> Pilot:
    return replace(each, rule=each.rule.model_copy(update={"items": items}))


def _rates(rates: Mapping[str, Rates]) -> dict[str, dict[str, float]]:
    return {model: {name: round(value, 4) for name, value in each._asdict().items()} for model, each in rates.items()}


def _rates_table(rates: Mapping[str, Mapping[str, float]], title: str, histories: int) -> Table:
    table = Table(title=f"{title}: what becomes of a model ({histories:,} histories)", title_justify="left")
    table.add_column("that is")
    for column in (*PERCENT, "items used"):
        table.add_column(column, justify="right")
    for model, each in rates.items():
        table.add_row(model, *(f"{100 * each[name]:.1f} %" for name in PERCENT), f"{100 * each['items']:.0f} %")
    return table


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
