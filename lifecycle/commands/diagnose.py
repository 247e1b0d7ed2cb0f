"""`diagnose`: which of six problems a run has, on what evidence, and the cheapest thing to change."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lifecycle.commands import existing_store, of_a_store
from lifecycle.runs import find_run
from lifecycle.store import Store

if TYPE_CHECKING:
    from lifecycle.diagnosis.comparison import Comparison
    from lifecycle.diagnosis.records import Records
    from lifecycle.diagnosis.verdict import Diagnosis

ITEMS = 120  # of each suite: with so many a share is known to 9 points, at a second or two of the tiny model
MEASURED_ITEMS = 300  # of the SFT checkpoint: 3 s of the tiny model, and 8 lost points stand out from chance

Say = Callable[[str], None]


def add(commands: Any) -> None:
    """Add it to a parser."""
    found = commands.add_parser("diagnose", help="which of six problems a run has, and the cheapest thing to change")
    found.add_argument("run", nargs="?", default="last", help="its name, how it begins, or `last` (default)")
    found.add_argument(
        "--against",
        metavar="RUN",
        help="a run that did better: what differs stage by stage, and what therefore cannot be the cause",
    )
    found.add_argument(
        "--measure",
        action="store_true",
        help=f"first ask the checkpoints what the evaluation did not: {MEASURED_ITEMS} items of SFT's, and some in "
        "other ways; says how long it takes before it starts, and is kept on record",
    )
    found.add_argument(
        "--items", type=int, default=ITEMS, metavar="N", help=f"of each suite, asked in other ways; default: {ITEMS}"
    )
    of_a_store(found, json=True)
    found.set_defaults(run_command=diagnose_run)


def diagnose_run(options: argparse.Namespace) -> int:
    """Print the ranked answer. The exit code says nothing about the run: only whether it could be looked at."""
    from lifecycle.report import comparison, diagnosis  # pyarrow and tokenizers: `show` must not wait for them

    store = existing_store(options.store)
    found, beside = looked_at(
        store,
        options.run,
        options.against or "",
        measured=options.measure,
        items=options.items,
        say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    if options.json:
        more = {} if beside is None else {"comparison": beside.model_dump(mode="json")}
        print(json.dumps({**diagnosis.as_data(found), **more}, indent=1), flush=True)
        return 0
    console = Console(highlight=False)
    console.print(diagnosis.screen(found))
    if beside is not None:
        console.print(comparison.screen(beside))
    return 0


def looked_at(
    store: Store, run: str, against: str = "", *, measured: bool = False, items: int = ITEMS, say: Say = lambda _: None
) -> tuple["Diagnosis", "Comparison | None"]:
    """The diagnosis of a run, measured first if asked for, and how it differs from another where one is named."""
    from lifecycle.diagnosis.comparison import compare
    from lifecycle.diagnosis.records import Records
    from lifecycle.diagnosis.verdict import diagnose

    records = Records(store, find_run(store, run))
    if measured:
        measure(records, items, say)
        records = Records(store, records.run)  # what was read before knows nothing of it
    beside = compare(records, Records(store, find_run(store, against))) if against else None
    return diagnose(records, comparison=beside), beside


def measure(run: "Records", items: int, say: Say) -> None:
    """Ask the run's checkpoints what is not on record yet. What it takes is said before it starts.

    The SFT checkpoint is evaluated as the candidate was, on fewer items, and sealed like any report; the rest is
    `lifecycle.diagnosis.measurement`.
    """
    from lifecycle.artifacts import Checkpoint, Suites
    from lifecycle.diagnosis import measurement
    from lifecycle.stages.evaluate import EvaluateConfig, evaluate

    if run.candidate is None or "suites" not in run.folders:
        say("nothing to measure: the run has no checkpoint, or no suites")
        return
    both = {"sft", "preference"} <= set(run.folders)
    if run.report is not None and both and run.report_of("sft") is None:
        asked = EvaluateConfig.model_validate(run.report.manifest.config)
        few = asked.model_copy(update={"items_per_suite": MEASURED_ITEMS})
        seconds = measurement.expected_seconds(run, 2 * MEASURED_ITEMS)  # greedy and sampled
        say(f"evaluating the SFT checkpoint on {MEASURED_ITEMS} items a suite, about {seconds:.0f} s ...")
        sft, suites = Checkpoint.load(run.folders["sft"]), Suites.load(Path(run.folders["suites"]))
        run.store.make(evaluate, few, sft, suites)
    if run.measured is None or run.measured.items < items:
        say(
            f"asking {items} items a suite in other ways, and what the base and SFT say of held-out text, "
            f"about {measurement.expected_seconds(run, measurement.PASSES * items):.0f} s ..."
        )
        say(f"measured in {measurement.measure(run, items).seconds:.0f} s, kept in {run.run.folder / measurement.FILE}")
