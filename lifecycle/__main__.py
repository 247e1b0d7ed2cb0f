"""Look, don't run: `python -m lifecycle show [RUN]`, `audit`, `live [--at TIME]`, each with `--store DIR --json`; and
`python -m lifecycle report RUN`, which writes a run's evaluation down as a page."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from lifecycle.audit import audit, moved_aliases
from lifecycle.errors import InputError, LifecycleError, StoreError
from lifecycle.ledger import withdrawn
from lifecycle.report import history, screens
from lifecycle.runs import find_run
from lifecycle.store import Store

BROKEN = 1
"""Exit code of an audit that found a break."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lifecycle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="the runs of a store, their stages, decisions, and what is live")
    show.add_argument("run", nargs="?", help="one run: its name, how it begins, or `last`")
    proof = commands.add_parser("audit", help="prove that all that was ever live had a passing decision for its bytes")
    live = commands.add_parser("live", help="what is live, or was at a moment")
    live.add_argument("--at", metavar="TIME", help="ISO 8601, like 2026-11-23T09:00; UTC unless it says otherwise")
    page = commands.add_parser("report", help="a run's evaluation as one HTML page that needs nothing else")
    page.add_argument("run", help="its name, how it begins, or `last`")
    page.add_argument("--against", metavar="RUN", help="compare with this run's evaluation, not with what was live")
    page.add_argument("--out", metavar="FILE", help="where to write it; default: beside the run's record")
    planned = commands.add_parser("plan", help="what a policy will cost and how often it will err, before it is asked")
    planned.add_argument("what", choices=["gate"], help="the items every rule needs, and the policy's error rates")
    planned.add_argument("run", nargs="?", default="last", help="whose reports are the pilot; default: the last run")
    planned.add_argument("--recipe", default="tiny", help="a recipe's name, or a file of yours: my_recipes.py:name")
    planned.add_argument("--set", action="append", default=[], dest="settings", metavar="STAGE.KEY=VALUE")
    planned.add_argument("--histories", type=int, default=4000, help="simulated of each kind of model")
    for command in (show, proof, live, page, planned):
        command.add_argument("--store", default=os.environ.get("LIFECYCLE_STORE", ".lifecycle"), metavar="DIR")
    for command in (show, proof, live, planned):
        command.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        if options.command == "audit":
            return audit_store(Path(options.store), as_json=options.json)
        if options.command == "live":
            return show_live(Path(options.store), options.at, as_json=options.json)
        if options.command == "plan":
            return plan_gate(options)
        if options.command == "report":
            return draw_report(Path(options.store), options.run, options.against, options.out)
        return show_store(Path(options.store), options.run, as_json=options.json)
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `show --json | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def show_store(folder: Path, name: str | None, *, as_json: bool) -> int:
    """Print a store, or one run of it."""
    store = existing_store(folder)
    run = None if name is None else find_run(store, name)
    if as_json:
        print(json.dumps(screens.as_data(store, run.name if run else None), indent=1), flush=True)
        return 0
    console = Console(highlight=False)
    if run is None:
        console.print(screens.overview(store))
    else:
        screens.final(store, run, console, prefect_url=os.environ.get("PREFECT_API_URL"))
    return 0


def draw_report(folder: Path, name: str, against: str | None, out: str | None) -> int:
    """Write a run's report and print where it is."""
    from lifecycle.report.evaluation import write_report  # pyarrow and all suites: `show` must not wait for them

    store = existing_store(folder)
    run, other = find_run(store, name), None if against is None else find_run(store, against)
    out = out or (None if other is None else str(run.folder / f"report-against-{other.name}.html"))
    print(write_report(run, other, to=None if out is None else Path(out)))
    return 0


def plan_gate(options: argparse.Namespace) -> int:
    """Print what the recipe's gate needs and how often it errs, by the item records of a run."""
    from lifecycle import recipes
    from lifecycle.evaluation.items import read_items
    from lifecycle.evaluation.metrics import measured
    from lifecycle.report import plan

    gate = recipes.load(options.recipe, options.settings).gate
    run = find_run(existing_store(Path(options.store)), options.run)
    reports = {record.stage: Path(record.path) for record in run.stages if record.kind == "EvalReport"}
    if "evaluate" not in reports:
        raise InputError(f"expected a run with an evaluation as the pilot, found none in {run.name}. Name another run.")
    pilots = [measured(read_items(reports[name])) for name in ("evaluate", "evaluate_live") if name in reports]
    data = plan.plan(
        gate.rules,
        pilots[0],
        pilots[1] if len(pilots) == 2 else None,
        alpha=1 - gate.confidence,
        looks=gate.looks,
        histories=options.histories,
    )
    if options.json:
        print(json.dumps(data, indent=1), flush=True)
    else:
        source = f"{run.name}, paired with what was live" if len(pilots) == 2 else f"{run.name} alone"
        Console(highlight=False).print(plan.screen(data, source))
    return 0


def audit_store(folder: Path, *, as_json: bool) -> int:
    """Print every entry of the ledger with its proof; 1 when one does not hold."""
    store = existing_store(folder)
    audited = audit(store)
    taken = withdrawn([found.entry for found in audited.entries])
    moved = moved_aliases(store)
    if as_json:
        print(json.dumps(history.audit_data(audited, taken, moved), indent=1), flush=True)
    else:
        Console(highlight=False).print(history.audit_screen(audited, taken, moved))
    return 0 if audited.first_break is None else BROKEN


def show_live(folder: Path, at: str | None, *, as_json: bool) -> int:
    """Print what was live at a moment; without one, now."""
    store, now = existing_store(folder), datetime.now(UTC)
    moment = now if at is None else moment_of(at)
    if moment > now:
        raise InputError(f"expected a moment that is over, found {moment.isoformat()}. Nobody knows what is live then.")
    data = history.live_data(store, moment)
    if as_json:
        print(json.dumps(data, indent=1), flush=True)
    else:
        Console(highlight=False, soft_wrap=True).print(history.live_screen(data))
    return 0


def moment_of(text: str) -> datetime:
    """The moment an ISO 8601 text names; UTC when it does not say which clock it reads."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"expected --at as ISO 8601, like 2026-11-23T09:00, found {text!r}: {error}.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def existing_store(folder: Path) -> Store:
    """The store in a folder: looking makes nothing."""
    if not (folder / "runs").is_dir():
        raise StoreError(f"expected an artifact store at {folder}, found none. Use --store, or `make run` to make one.")
    return Store(folder)


if __name__ == "__main__":
    sys.exit(main())
