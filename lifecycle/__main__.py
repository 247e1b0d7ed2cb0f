"""Look, don't run: `python -m lifecycle show [RUN] [--store DIR] [--json]`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lifecycle.errors import InputError, LifecycleError, StoreError
from lifecycle.report import screens
from lifecycle.runs import Run, all_runs
from lifecycle.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lifecycle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="the runs of a store, their stages, decisions, and what is live")
    show.add_argument("run", nargs="?", help="one run: its name, how it begins, or `last`")
    show.add_argument("--store", default=os.environ.get("LIFECYCLE_STORE", ".lifecycle"), metavar="DIR")
    show.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        return show_store(Path(options.store), options.run, as_json=options.json)
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `show --json | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def show_store(folder: Path, name: str | None, *, as_json: bool) -> int:
    """Print a store, or one run of it."""
    if not (folder / "runs").is_dir():
        raise StoreError(f"expected an artifact store at {folder}, found none. Use --store, or `make run` to make one.")
    store = Store(folder)
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


def find_run(store: Store, name: str) -> Run:
    """The run with this name, or the only one that begins so, or the `last`."""
    runs = list(all_runs(store))
    found = runs[:1] if name == "last" else [run for run in runs if run.name.startswith(name)]
    if len(found) != 1:
        known = ", ".join(run.name for run in runs[:5]) or "none"
        raise InputError(f"expected one run {name!r}, found {len(found)}. The newest runs: {known}.")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
