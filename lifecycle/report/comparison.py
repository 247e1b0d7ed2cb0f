"""Two runs side by side in words: what differs, what moved, and what a stage swap found or would cost."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lifecycle.diagnosis.comparison import Comparison, Moved, StagePair
from lifecycle.pages.render import escaped
from lifecycle.report.key_numbers import duration, key_number

MOST = 6  # settings of a stage that are shown; the rest is counted


def screen(found: Comparison) -> RenderableType:
    """The stages of both runs, their scores, and what follows for the cause."""
    table = Table(title=f"beside {found.against}", title_justify="left", title_style="bold", expand=False)
    for column, style in (("stage", "bold"), ("artifact", ""), ("this run / the other", ""), ("differs in", "")):
        table.add_column(column, style=style, overflow="fold")
    for pair in found.stages:
        numbers = " / ".join(dict.fromkeys(key_numbers(pair)))
        style = "yellow" if pair.by_itself else "dim" if pair.same else ""
        row = (pair.stage, "the same" if pair.same else "another", numbers, "; ".join(differences(pair)))
        table.add_row(*map(Text, row), style=style)
    parts: list[RenderableType] = [table]
    if found.scores:
        parts.append(_scores(found))
    parts += [Text(sentence) for sentence in conclusions(found)]
    if found.plan is not None and found.swap is None:
        parts.append(Text(f"  {found.plan.command}", style="green"))
    return Group(*parts)


def markdown(found: Comparison) -> str:
    """The same for the orchestrator's pages."""
    lines = [f"## Beside {escaped(found.against)}", "", "| stage | artifact | this run / the other | differs in |"]
    lines.append("|---|---|---|---|")
    for pair in found.stages:
        numbers = " / ".join(dict.fromkeys(key_numbers(pair)))
        cells = (pair.stage, "the same" if pair.same else "another", numbers, "; ".join(differences(pair)))
        lines.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    if found.scores:
        lines += ["", "| metric | this run | the other | difference, 95 % |", "|---|---:|---:|---:|"]
        for moved in found.scores:
            row = (moved.metric, *(number(value) for value in moved.values), interval(moved))
            lines.append(f"| {' | '.join(escaped(cell) for cell in row)} |")
    lines += ["", *(f"- {escaped(sentence)}" for sentence in conclusions(found))]
    if found.plan is not None and found.swap is None:
        lines += ["", f"`{found.plan.command}`"]
    return "\n".join([*lines, ""])


def key_numbers(pair: StagePair) -> tuple[str, str]:
    """What came out of the stage in either run; scores have a table of their own."""
    if "EvalReport" in pair.kinds:
        return "", ""
    mine, theirs = (
        key_number(kind, facts) if kind else "not made" for kind, facts in zip(pair.kinds, pair.facts, strict=True)
    )
    return mine, theirs


def differences(pair: StagePair) -> list[str]:
    """What differs about a stage, the most telling first; [] where it is the same artifact."""
    if pair.same:
        return []
    said = [f"{name} {_value(mine)} / {_value(theirs)}" for name, (mine, theirs) in list(pair.settings.items())[:MOST]]
    said += [f"{len(pair.settings) - MOST} more settings"] if len(pair.settings) > MOST else []
    said += [f"its code: {', '.join(pair.code)}"] if pair.code else []
    said += ["its raw files: other bytes from the same settings, code and inputs"] if pair.raw else []
    said += [f"what it was made from: {', '.join(pair.inputs)}"] if pair.inputs else []
    return said


def conclusions(found: Comparison) -> list[str]:
    """What follows for the cause, and what is to be done to know more; nothing of it is started."""
    several = len(found.suspects) > 1
    names = f"Only {', '.join(pair.stage for pair in found.suspects)}" if found.suspects else "No stage"
    same = [pair.stage for pair in found.stages if pair.same]
    said = [f"{names} {'differ by themselves' if several else 'differs by itself'}."]
    if not found.is_worse:
        said += [f"The same artifact in both: {', '.join(same)}."] if same else []
        said.append(f"{found.run} is not shown to be worse than {found.against}: no stage is ruled out.")
    else:
        judges = [pair.stage for pair in found.stages if not pair.same and found.rules_out(pair.stage)]
        said += [f"Not the cause, because it is the same artifact in both: {', '.join(same)}."] if same else []
        said += [f"Not the cause, because it does the same in both: {', '.join(judges)}."] if judges else []
    if found.swap is not None:
        said += [f"Stages swapped in {found.swap.run}: {sentence}" for sentence in found.swap.sentences]
    elif found.plan is not None:
        said.append(f"How much of it each stage carries, which is measured only when you ask ({cost(found)}):")
    else:
        said.append(f"Stages cannot be swapped: {found.no_plan}")
    return said


def cost(found: Comparison) -> str:
    """What a stage swap would make again, and how long that takes by what the two runs took."""
    assert found.plan is not None
    if not found.plan.evaluations:
        return "only one stage differs, so nothing is made again"
    made = ", ".join(found.plan.remade) or "no stage"
    return f"makes {made} again and evaluates {found.plan.evaluations} times, about {duration(found.plan.seconds)}"


def interval(moved: Moved) -> str:
    """A difference with its interval, or why there is none."""
    if moved.difference is None or moved.low is None or moved.high is None:
        return moved.fault or "not measured"
    return f"{moved.difference:+.4f} [{moved.low:+.4f}, {moved.high:+.4f}]"


def number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _scores(found: Comparison) -> Table:
    table = Table(expand=False)
    for column in ("metric", "this run", "the other", "difference, 95 %"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for moved in found.scores:
        row = (moved.metric, *(number(value) for value in moved.values), interval(moved))
        table.add_row(*map(Text, row), style="bold" if moved.is_worse else "")
    return table


def _value(value: Any) -> str:
    return "none" if value is None else str(value)
