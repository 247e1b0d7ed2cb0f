"""The store in words: what every run made, what was decided, what is live. For people (rich) and programs (JSON)."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lifecycle import sealing
from lifecycle.artifacts import GateDecision
from lifecycle.errors import DamagedArtifact
from lifecycle.ledger import Ledger
from lifecycle.report import decision as words
from lifecycle.report.key_numbers import duration, key_number
from lifecycle.runs import Run, StageRecord, all_runs
from lifecycle.store import Store

COLOURS = {
    "RELEASED": "green",
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "AWAITING_APPROVAL": "cyan",
    "BLOCKED": "yellow",
    "INCONCLUSIVE": "yellow",
}


def final(store: Store, run: Run, console: Console | None = None, *, prefect_url: str | None = None) -> None:
    """The last screen of a run: what came out, why, and where to look."""
    console = console or Console(file=sys.stderr, highlight=False)
    console.print(stages_table(run))
    for stage in run.stages:
        for note in stage.notes:
            console.print(Text(f"{stage.stage}: {note}", style="yellow"))
    decision = decision_of(run)
    if decision is not None:
        console.print(decision_panel(decision))
    console.print(_where(store, run, prefect_url), soft_wrap=True)


def stages_table(run: Run) -> RenderableType:
    """A row for every stage of a run."""
    record = run.record
    took = duration((record.ended or record.started) - record.started) if record.ended else "running"
    title = " ".join([record.flow, _short_recipe(record.recipe), *record.settings])
    table = Table(title=f"{title}: {run.state} in {took}", title_justify="left", title_style="bold", expand=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("")
    table.add_column("seconds", justify="right")
    table.add_column("what came out")
    for stage in run.stages:
        how = Text("reused", style="dim") if stage.reused else Text("made", style="green")
        table.add_row(stage.stage, how, "" if stage.reused else f"{stage.seconds:.1f}", Text(number_of(stage)))
    return table


def decision_panel(decision: GateDecision) -> RenderableType:
    """The verdict, and for each check that did not pass its numbers, its reason and the items behind it."""
    style = COLOURS["RELEASED" if decision.promote else "BLOCKED"]
    lines: list[RenderableType] = [Text(words.sentence(decision))]
    for check in words.not_passed(decision):
        lines.append(Text(f"{check.verdict} {check.metric} ({check.rule}): {words.numbers(check)}", style="bold"))
        lines.append(Text(f"  {check.reason}"))
        if check.items:
            lines.append(Text(f"  got worse: {words.items(check)}", style="dim"))
    return Panel(Group(*lines), title=f"gate: {decision.verdict}", title_align="left", border_style=style)


def overview(store: Store) -> RenderableType:
    """Every run of the store, newest first, and what is live."""
    table = Table(title=f"runs in {store.root}", title_justify="left", title_style="bold", expand=True)
    for column in ("run", "state", "took", "made", "reused"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("took", "made", "reused") else "left")
    table.add_column("what", overflow="fold", max_width=36)
    table.add_column("how it ended", no_wrap=True, overflow="ellipsis", ratio=1)
    for run in all_runs(store):
        record, stages, state = run.record, run.stages, run.state
        made = sum(not stage.reused for stage in stages)
        took = duration(record.ended - record.started) if record.ended else ""
        what = " ".join([record.flow, _short_recipe(record.recipe), *record.settings])
        counts = (str(made), str(len(stages) - made))
        table.add_row(run.name, Text(state, style=COLOURS.get(state, "red")), took, *counts, what, Text(record.message))
    return Group(table, live_line(store))


def live_line(store: Store) -> RenderableType:
    """What users get now."""
    live = Ledger(store).live()
    if live is None:
        return Text("live: nothing yet", style="bold")
    place = folder_of(store, live.release)
    return Text(
        f"live: release {live.release[:12]} since {live.at}, {live.reason}\n      {place or 'its folder is gone'}",
        style="bold",
    )


def as_data(store: Store, name: str | None = None) -> dict[str, Any]:
    """The same, for programs."""
    live = Ledger(store).live()
    runs = [run for run in all_runs(store) if name in (None, run.name)]
    return {
        "store": str(store.root),
        "live": None if live is None else {**live.model_dump(), "folder": str(folder_of(store, live.release) or "")},
        "runs": [_run_data(run) for run in runs],
    }


def _run_data(run: Run) -> dict[str, Any]:
    decision = decision_of(run)
    stages = [{**stage.model_dump(), "number": number_of(stage), "facts": _facts(stage)} for stage in run.stages]
    seen = None if decision is None else decision.model_dump(mode="json")
    pages = {"report": run.page, "evaluation": run.evaluation_page, "data_card": run.data_card}
    there = {name: str(page) if page.exists() else None for name, page in pages.items()}
    return {**run.record.model_dump(), "state": run.state, "stages": stages, "decision": seen, **there}


def number_of(stage: StageRecord) -> str:
    facts = _facts(stage)
    return "its folder is gone" if facts is None else key_number(stage.kind, facts)


def decision_of(run: Run) -> GateDecision | None:
    """The gate decision of a run, if it came so far."""
    for stage in run.stages:
        facts = _facts(stage) if stage.kind == "GateDecision" else None
        if facts is not None:
            return GateDecision(path=Path(stage.path), **facts)
    return None


def _facts(stage: StageRecord) -> dict[str, Any] | None:
    try:
        return sealing.read_manifest(Path(stage.path)).facts
    except DamagedArtifact:
        return None


def folder_of(store: Store, release_digest: str) -> Path | None:
    for manifest in (store.root / "artifacts" / "release").glob(f"*/{sealing.MANIFEST}"):
        if sealing.read_manifest(manifest.parent).digest == release_digest:
            return manifest.parent
    return None


def _short_recipe(recipe: str) -> str:
    """A recipe's name without the folders of its file."""
    return recipe.rpartition("/")[2]


def _where(store: Store, run: Run, prefect_url: str | None) -> RenderableType:
    shown = f" --store {store.root}"
    tracking = os.environ.get("MLFLOW_TRACKING_URI")
    made = [("report", run.page.as_uri())] if run.page.exists() else []
    if not made:
        made = [("report", f"python -m lifecycle report{shown} {run.name}")]
    if run.evaluation_page.exists():
        made.append(("evaluation", run.evaluation_page.as_uri()))
    if run.data_card.exists():
        made.append(("data card", run.data_card.as_uri()))
    looks = [
        *made,
        ("look again", f"python -m lifecycle show{shown} {run.name}"),
        ("every run", f"python -m lifecycle show{shown}"),
        ("curves", tracking or f"mlflow ui --backend-store-uri sqlite:///{store.root / 'mlflow.db'}"),
        ("flow runs", prefect_url or f"PREFECT_HOME={store.root / 'prefect'} prefect server start"),
    ]
    grid = Table.grid(padding=(0, 2))
    for what, command in looks:
        grid.add_row(Text(what, style="dim"), Text(command, no_wrap=True))
    return Group(live_line(store), grid)
