"""`python -m flows.<name> --recipe tiny --set sft.epochs=2`: check everything, then import Prefect and run.

Exit codes: 0 released, awaiting approval or completed, 1 failed, 2 wrong configuration, input or store, 3 blocked or
inconclusive, 85 preempted (the same command goes on), 130 interrupted.
"""

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import ValidationError

from flows import server
from flows.preflight import check_rows
from lifecycle.errors import ConfigError, LifecycleError, Preempted
from lifecycle.report import screens
from lifecycle.report.live import PLAIN
from lifecycle.runs import Run, new_name
from lifecycle.store import Store
from tasks import tracking
from tasks.session import (
    AblationRequest,
    DiagnosisRequest,
    EngineName,
    PromotionRequest,
    Request,
    checked_recipe,
    default_store,
    store_of,
)

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

# Name of the module, and the flow in it.
FLOWS = {
    "full_lifecycle": "full_lifecycle",
    "prepare_data": "prepare_data_flow",
    "train_base": "train_base_flow",
    "post_train": "post_train_flow",
    "evaluate_release": "evaluate_release_flow",
    "promote": "promote",
    "rollback": "rollback",
    "ablate": "ablate",
    "diagnose": "diagnose",
}
BY_HAND = ("promote", "rollback")
OF_RUNS = ("ablate",)  # the recipes are those of the runs it is about
LOOKING = ("diagnose",)  # no run of its own: nothing is made
REQUESTS: dict[str, type[Request | DiagnosisRequest]] = {
    "promote": PromotionRequest,
    "rollback": PromotionRequest,
    "ablate": AblationRequest,
    "diagnose": DiagnosisRequest,
}
BLOCKED, INTERRUPTED = 3, 130


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a flow from the command line; the exit code says how it ended."""
    signal.signal(signal.SIGTERM, _preempt)
    try:
        request = parse(name, arguments)
        if isinstance(request, Request) and name not in OF_RUNS:
            recipe = checked_recipe(request)
            if name not in BY_HAND:
                check_rows(recipe)
        return run(name, request, store_of(request))
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from what is sealed.", file=sys.stderr)
        return INTERRUPTED


def run(name: str, request: Request | DiagnosisRequest, store: Store) -> int:
    """Start a server if none is there, run the flow, show how it ended."""
    temporary = server.prepare(store.root)
    flow: Flow[..., Any] = getattr(importlib.import_module(f"flows.{name}"), FLOWS[name])
    tracking.import_early()  # 2 s beside the server's start
    if temporary:
        temporary.wait()
    state = cast("State[Any]", flow(request, return_state=True))
    record = Run(store.root / "runs" / str(request.run))
    if record.folder.exists() and name not in LOOKING:
        screens.final(store, record, prefect_url=None if temporary else os.environ["PREFECT_API_URL"])
    if state.is_completed():
        return 0
    if state.name in ("Blocked", "Inconclusive"):
        return BLOCKED
    error = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    if isinstance(error, LifecycleError):
        raise error
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    print(f"{name} ended as {state.name}: {state.message}", file=sys.stderr)
    return 1


def parse(name: str, arguments: Sequence[str] | None = None) -> Request | DiagnosisRequest:
    """The request a command line describes; ConfigError where it cannot be one."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{name}", description=__doc__, formatter_class=_Help)
    if name in LOOKING:
        _add_looking(parser)
    if name not in (*OF_RUNS, *LOOKING):
        parser.add_argument(
            "--recipe", default="tiny", metavar="NAME", help="a recipe, or a file: my_recipes.py:name (tiny)"
        )
        parser.add_argument(
            "--set", action="append", default=[], dest="settings", metavar="STAGE.KEY=VALUE", help="change it"
        )
    if name not in LOOKING:
        parser.add_argument(
            "--rebuild", action="append", default=[], metavar="STAGE", help="make again if its code changed"
        )
        parser.add_argument(
            "--accept-drift", action="append", default=[], metavar="STAGE", help="keep although it changed"
        )
    parser.add_argument("--store", default=default_store(), metavar="DIR", help="LIFECYCLE_STORE, or .lifecycle")
    if name not in (*BY_HAND, *LOOKING):
        parser.add_argument("--engine", default="here", choices=get_args(EngineName), help="where shards are worked on")
        parser.add_argument(
            "--workers", type=int, default=0, metavar="N", help="threads or processes; dask: how many to wait for"
        )
        parser.add_argument(
            "--cluster", default="", metavar="ADDRESS", help="with --engine dask: its scheduler, tcp://host:8786"
        )
        parser.add_argument(
            "--budget-hours", type=float, default=0, metavar="H", help="an alarm when it takes longer; it goes on"
        )
    if name not in (*BY_HAND, *OF_RUNS, *LOOKING):
        parser.add_argument("--canary", action="store_true", help="stop where a number leaves what the recipe expects")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live screen")
    if name in BY_HAND:
        parser.add_argument("--release", required=True, metavar="DIGEST", help="how its digest begins, or: previous")
        parser.add_argument("--reason", required=True, help="kept in the ledger")
        parser.add_argument(
            "--expected", default="", metavar="DIGEST", help="what you see live; refused when it is another by now"
        )
        parser.add_argument("--approver", default="", metavar="NAME", help="who says so; kept in the ledger")
        parser.add_argument(
            "--decision", default="", metavar="DIGEST", help="the gate's, as you saw it; refused if it is another"
        )
    if name in OF_RUNS:
        parser.add_argument("--good", required=True, metavar="RUN", help="its name, or how it begins")
        parser.add_argument("--bad", required=True, metavar="RUN", help="its name, or how it begins")
        parser.add_argument("--metric", action="append", default=[], dest="metrics", help="default: what the gate saw")
    options = vars(parser.parse_args(arguments))
    if options.pop("plain"):
        os.environ[PLAIN] = "1"
    kind = REQUESTS.get(name, Request)
    try:
        return kind(**{"run": new_name(), **options, "store": Path(options["store"]).expanduser().absolute()})
    except ValidationError as error:
        found = [("".join(f"--{option}: " for option in item["loc"][:1]), item["msg"]) for item in error.errors()]
        reasons = "; ".join(option + message.removeprefix("Value error, ") for option, message in found)
        raise ConfigError(f"{reasons}. See --help.") from error


def _add_looking(parser: argparse.ArgumentParser) -> None:
    """What a flow takes that only looks at a run."""
    parser.add_argument("--run", default="last", metavar="RUN", help="its name, how it begins, or `last` (default)")
    parser.add_argument("--against", default="", metavar="RUN", help="a run that did better, to see what differs")
    parser.add_argument("--measure", action="store_true", help="first ask the checkpoints what is not on record")
    parser.add_argument("--items", type=int, default=120, metavar="N", help="of each suite, where --measure asks")


class _Help(argparse.RawDescriptionHelpFormatter):
    """The module's own words, unwrapped."""


def _preempt(_signal: int, _frame: FrameType | None) -> None:
    raise Preempted("told to stop by SIGTERM. The same command goes on from the last checkpoint.")
