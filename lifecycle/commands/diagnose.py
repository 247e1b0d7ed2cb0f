"""`diagnose`: which of six problems a run has, on what evidence, and the cheapest thing to change."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from lifecycle.commands import existing_store, of_a_store
from lifecycle.runs import find_run

MEASURED_ITEMS = 300  # of the SFT checkpoint: 3 s of the tiny model, and 8 lost points stand out from chance


def add(commands: Any) -> None:
    """Add it to a parser."""
    found = commands.add_parser("diagnose", help="which of six problems a run has, and the cheapest thing to change")
    found.add_argument("run", nargs="?", default="last", help="its name, how it begins, or `last` (default)")
    found.add_argument(
        "--measure",
        action="store_true",
        help=f"also evaluate the SFT checkpoint on {MEASURED_ITEMS} items a suite, if it was not: it says whether "
        "preferences lost what SFT had learned",
    )
    of_a_store(found, json=True)
    found.set_defaults(run_command=diagnose_run)


def diagnose_run(options: argparse.Namespace) -> int:
    """Print the ranked answer. The exit code says nothing about the run: only whether it could be looked at."""
    from lifecycle.diagnosis.records import Records  # pyarrow and tokenizers: `show` must not wait for them
    from lifecycle.diagnosis.verdict import diagnose
    from lifecycle.report import diagnosis

    store = existing_store(options.store)
    run = Records(store, find_run(store, options.run))
    if options.measure:
        measure(run)
    found = diagnose(run)
    if options.json:
        print(json.dumps(diagnosis.as_data(found), indent=1), flush=True)
    else:
        Console(highlight=False).print(diagnosis.screen(found))
    return 0


def measure(run: Any) -> None:
    """Evaluate the run's SFT checkpoint as its candidate was evaluated, on fewer items; sealed like any report."""
    from lifecycle.artifacts import Checkpoint, Suites
    from lifecycle.stages.evaluate import EvaluateConfig, evaluate

    if run.report is None or not {"sft", "preference"} <= set(run.folders) or run.report_of("sft") is not None:
        return
    asked = EvaluateConfig.model_validate(run.report.manifest.config)
    few = asked.model_copy(update={"items_per_suite": MEASURED_ITEMS})
    print(f"evaluating the SFT checkpoint on {MEASURED_ITEMS} items a suite ...", file=sys.stderr)
    sft, suites = Checkpoint.load(run.folders["sft"]), Suites.load(Path(run.folders["suites"]))
    run.store.make(evaluate, few, sft, suites)
