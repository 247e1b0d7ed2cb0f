"""`talk` and `handoff`: a model in this terminal, and a server of it held against its evaluation."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from lifecycle.artifacts import Checkpoint, Release
from lifecycle.commands import existing_store, of_a_store
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.launchers.environment import worker_environment
from lifecycle.ledger import Ledger
from lifecycle.report import screens
from lifecycle.runs import find_run
from lifecycle.store import Store


def add(commands: Any) -> None:
    """Add both to a parser."""
    talk = commands.add_parser("talk", help="chat with what is live, or with a checkpoint of a run, in this terminal")
    talk.add_argument("run", nargs="?", help="whose checkpoint; default: the live release")
    talk.add_argument("--stage", help="which of the run's checkpoints: pretrain, sft, preference; default: the last")
    talk.add_argument("--temperature", type=float, default=0.0, help="0 (default) takes the likeliest token each time")
    talk.add_argument("--seed", type=int, default=0)
    of_a_store(talk)
    talk.set_defaults(run_command=talk_to)
    served = commands.add_parser("handoff", help="serve a run's model on loopback and compare it with its evaluation")
    served.add_argument("run", nargs="?", default="last", help="its name, how it begins, or `last` (default)")
    served.add_argument("--items", type=int, default=50, help="questions to ask again; default: 50")
    of_a_store(served)
    served.set_defaults(run_command=hand_off)


def talk_to(options: argparse.Namespace) -> NoReturn:
    """Hand the terminal to a worker that holds the model."""
    folder = model_folder(existing_store(options.store), options.run, options.stage)
    _become("lifecycle.workers.talk", folder, "--temperature", options.temperature, "--seed", options.seed)


def hand_off(options: argparse.Namespace) -> NoReturn:
    """Compare what a server of a run's model says with the run's evaluation of it."""
    run = find_run(existing_store(options.store), options.run)
    paths = {record.stage: Path(record.path) for record in run.stages}
    if not {"suites", "evaluate", "preference"} <= set(paths):
        raise InputError(
            f"expected a run with an evaluated model, found {', '.join(paths)} in {run.name}. Name another."
        )
    model = paths["release"] / "model" if "release" in paths else paths["preference"]
    _become("lifecycle.workers.handoff", model, paths["evaluate"], paths["suites"], "--items", options.items)


def model_folder(store: Store, name: str | None, stage: str | None) -> Path:
    """The model of the live release, or of a run's checkpoint."""
    if name is None and stage is None:
        live = Ledger(store).live()
        if live is None:
            raise InputError("expected a live release to talk to, found none. Name a run, or `make run` for one.")
        release = screens.folder_of(store, live.release)
        if release is None:
            raise DamagedArtifact(f"expected the folder of release {live.release[:12]}, found it gone. Name a run.")
        return Release.load(release).model_dir
    run = find_run(store, name or "last")
    made = {record.stage: record for record in run.stages if record.kind == "Checkpoint"}
    if not made or stage not in (None, *made):
        raise InputError(
            f"expected a checkpoint of {stage or 'any stage'} in {run.name}, found {', '.join(made) or 'none'}. "
            "Name another run or stage."
        )
    return Checkpoint.load(Path(made[stage or list(made)[-1]].path)).path


def _become(worker: str, *arguments: object) -> NoReturn:
    """Turn into a worker, with this terminal: what needs torch is not imported here."""
    command = [sys.executable, "-m", worker, *map(str, arguments)]
    os.execve(sys.executable, command, worker_environment(os.cpu_count() or 1))
