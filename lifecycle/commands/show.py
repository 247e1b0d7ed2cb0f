"""`show` and `report`: what a store holds, on the terminal, for a program, or as a page."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from lifecycle.commands import existing_store, of_a_store
from lifecycle.errors import InputError
from lifecycle.report import data_card_command as data_card
from lifecycle.report import screens
from lifecycle.runs import find_run
from lifecycle.store import Store


def add(commands: Any) -> None:
    """Add both to a parser."""
    show = commands.add_parser("show", help="the runs of a store, their stages, decisions, and what is live")
    show.add_argument(
        "what",
        nargs="?",
        help="one run: its name, how it begins, or `last`; or `corpus`, `tokenizer`, `demonstrations`, `comparisons`, "
        "`mask`",
    )
    show.add_argument("run", nargs="?", help="whose corpus, tokenizer, ... or mask; default: the newest")
    show.add_argument(
        "--dropped", nargs="?", const="", metavar="REASON", help="of data: examples of what was dropped for it"
    )
    show.add_argument("--stage", default="sft", help="of `mask`: sft (default) or preference")
    show.add_argument("--rows", type=int, default=5, help="of `mask`: how many; default: 5")
    show.add_argument("--out", metavar="FILE", help="of `mask`: write an HTML page instead")
    of_a_store(show, json=True)
    show.set_defaults(run_command=show_what)
    page = commands.add_parser("report", help="a run, its evaluation or its data as a page that needs nothing else")
    page.add_argument(
        "what",
        help="the run: its name, how it begins, or `last`; or `evaluation`, `corpus`, `demonstrations`, "
        "`comparisons`: of a run",
    )
    page.add_argument("run", nargs="?", help="whose evaluation or data; default: the newest")
    page.add_argument("--against", metavar="RUN", help="beside this run; of `evaluation`: not beside what was live")
    page.add_argument("--out", metavar="FILE", help="where to write it; default: beside the run's record")
    of_a_store(page)
    page.set_defaults(run_command=draw_report)


def show_what(options: argparse.Namespace) -> int:
    """Print a store, a run, a corpus, a tokenizer or what the loss covers."""
    store = existing_store(options.store)
    match options.what:
        case "corpus":
            data_card.show_corpus(store, options.run, dropped=options.dropped, as_json=options.json)
        case "tokenizer":
            data_card.show_tokenizer(store, options.run, as_json=options.json)
        case "demonstrations":
            data_card.show_demonstrations(store, options.run, dropped=options.dropped, as_json=options.json)
        case "comparisons":
            data_card.show_comparisons(store, options.run, as_json=options.json)
        case "mask":
            show_mask(store, options)
        case name:
            _refuse_second_run(options)
            show_store(store, name, as_json=options.json)
    return 0


def show_store(store: Store, name: str | None, *, as_json: bool) -> None:
    """Print a store, or one run of it."""
    run = None if name is None else find_run(store, name)
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(screens.as_data(store, run.name if run else None), indent=1), flush=True)
    elif run is None:
        console.print(screens.overview(store))
    else:
        screens.final(store, run, console, prefect_url=os.environ.get("PREFECT_API_URL"))


def show_mask(store: Store, options: argparse.Namespace) -> None:
    """Print training rows with the tokens the loss covers, or write them as a page."""
    from lifecycle.report import mask  # tokenizers and jinja2: `show` must not wait for them

    run = find_run(store, options.run or "last")
    rows = mask.of_run(run, options.stage, rows=options.rows)
    if options.out is not None:
        Path(options.out).write_text(mask.page(rows, f"{options.stage} of {run.name}"), encoding="utf-8")
        print(options.out)
    elif options.json:
        print(json.dumps(mask.as_data(rows), indent=1), flush=True)
    else:
        Console(highlight=False).print(mask.screen(rows))


def draw_report(options: argparse.Namespace) -> int:
    """Write the page of a run, of its evaluation or of its data, and print where it is."""
    store, out = existing_store(options.store), options.out
    of_data = {
        "corpus": data_card.report_corpus,
        "demonstrations": data_card.report_demonstrations,
        "comparisons": data_card.report_comparisons,
    }
    if options.what in of_data:
        of_data[options.what](store, options.run, out)
        return 0
    # pyarrow, tokenizers and all suites: `show` must not wait for them
    from lifecycle.report import evaluation, run_page

    of_evaluation = options.what == "evaluation"
    if not of_evaluation:
        _refuse_second_run(options)
    run = find_run(store, options.run or "last" if of_evaluation else options.what)
    other = None if options.against is None else find_run(store, options.against)
    name = "evaluation" if of_evaluation else "report"
    path = Path(out) if out else run.folder / f"{name}{f'-against-{other.name}' if other else ''}.html"
    print(evaluation.write_report(run, other, to=path) if of_evaluation else run_page.write(store, run, path, other))
    return 0


def _refuse_second_run(options: argparse.Namespace) -> None:
    """Only a corpus, a tokenizer or a mask is of a run; a run is of nothing."""
    if options.run is not None:
        raise InputError(
            f"expected one run, or `corpus` and a run, found {options.what!r} and {options.run!r}. Leave one out."
        )
