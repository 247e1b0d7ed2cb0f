"""Hand a job to a launcher, follow it, bring back its result. Stages use this; no heavy import happens on this side.

A job folder holds job.json (what to do), worker.log, metrics.jsonl, progress.json and result.json or error.json.
"""

import json
import os
import time
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle import errors, progress
from lifecycle.errors import LifecycleError, Preempted, WorkerFailed
from lifecycle.launchers import admission
from lifecycle.launchers.accelerators import names_here
from lifecycle.launchers.kubernetes import Kubernetes, KubernetesSettings
from lifecycle.launchers.local import Local
from lifecycle.launchers.shape import Handle, Launcher, Resources, Status, key_of
from lifecycle.launchers.slurm import Slurm, SlurmSettings
from lifecycle.launchers.static_nodes import StaticNodes
from lifecycle.sealing import write_atomically

PREEMPTED_EXIT = 85
POLL_SECONDS = 0.2
GRACE_SECONDS = 25.0
"""To finish a step and save when told to stop. Prefect's process worker, Kubernetes and Slurm kill the flow 30 s after
they asked it: what is left is for the run's record."""
LOG_LINES = 15


class Job(BaseModel):
    """Base of what is handed to a worker; subclasses add fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    out_dir: Path
    """Where the worker writes what will be sealed."""
    scratch_dir: Path
    """Where it keeps what it can resume from; gone once sealed."""


class Launch(BaseModel):
    """Where a job runs, and what happens when it stands still."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    launcher: Literal["local", "nodes", "slurm", "kubernetes"] = Field(
        "local",
        description="local: this machine, as long as this process lives. nodes: machines that joined the store. "
        "slurm, kubernetes: wherever the scheduler finds room.",
    )
    nodes: int = Field(1, ge=1, description="Machines, each with as many ranks. More than one are never local.")
    hang_timeout_seconds: float | None = Field(
        900.0, gt=0, le=1500, description="A rank that stands still for so long hangs: all are ended. None: never."
    )
    start_timeout_seconds: float = Field(
        1800.0, gt=0, description="The same until its first step, which imports, compiles and reads a checkpoint."
    )
    max_restarts: int = Field(3, ge=0, description="After a hang or a lost process, from the newest checkpoint.")
    slurm: SlurmSettings = SlurmSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @model_validator(mode="after")
    def _nodes_are_launched(self) -> "Launch":
        if self.nodes > 1 and self.launcher == "local":
            raise ValueError(
                f"expected launcher 'nodes', 'slurm' or 'kubernetes' for {self.nodes} nodes, found 'local'; set one"
            )
        return self


UNWATCHED = Launch(hang_timeout_seconds=None, max_restarts=0)
R = TypeVar("R", bound=BaseModel)


def cores() -> int:
    """How many this process may use: fewer than the machine has where it is pinned to some."""
    pinned_to = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(pinned_to(0)) if pinned_to else os.cpu_count() or 1


def run_worker(
    worker: str,
    job: Job,
    result: type[R],
    *,
    ranks: int | None = None,
    threads: int | None = None,
    launch: Launch = UNWATCHED,
    on_accelerators: bool = False,
) -> R:
    """Run `python -m <worker> <job folder>` to its end and return what it wrote to result.json.

    With `ranks` it runs under `torch.distributed.run`, that many processes on each node. `threads` caps the threads of
    each process (default: all cores shared out). `on_accelerators` it has one of them for each rank to itself, where
    there are any, and waits until they are free.

    Raises the worker's own LifecycleError when it reported one, WorkerFailed with the end of its log when it died. When
    this returns or raises, no process of the job is left; when this process is killed, `launchers.shape` says what is.
    """
    resources = Resources(
        ranks=ranks,
        threads=threads or max(1, cores() // (ranks or 1)),
        accelerators=(ranks or 1) if on_accelerators else 0,
        **launch.model_dump(exclude={"launcher", "slurm", "kubernetes"}),
    )
    folder = (job.out_dir / "log").absolute()
    key = key_of(job.out_dir, worker)
    launcher = _launcher(launch, job)
    status, log = Status(state="lost"), list[str]()
    # On this machine we can see whether there are any; a job on the CPU must not take the place of one that needs them.
    wanted = resources.accelerators if launch.launcher != "local" or names_here() else 0
    with admission.admitted(wanted * resources.nodes):
        if attached := launcher.reattach(key):
            status, log = _follow(launcher, attached, folder)
        # What an attached job wrote beside its checkpoints may have been cleared when this attempt began: it is written
        # again, from the last checkpoint.
        if not attached or status.exit_code == 0:
            status, log = _follow(launcher, _submit(launcher, worker, job, folder, key, resources), folder)
    return _read_result(folder, status, log, worker, result)


def board_of(store: Path) -> Path:
    """Where the calls for the nodes of a store are posted."""
    return store / "nodes"


def _launcher(launch: Launch, job: Job) -> Launcher:
    """Of the kind asked for; its calls lie where its nodes see them."""
    if launch.launcher == "local":
        return Local(job.scratch_dir.absolute() / "launch")
    store = job.out_dir.absolute().parents[2]
    match launch.launcher:
        case "nodes":
            return StaticNodes(board_of(store))
        case "slurm":
            return Slurm(store / "slurm", launch.slurm)
        case "kubernetes":
            return Kubernetes(store / "kubernetes", launch.kubernetes)


def _submit(launcher: Launcher, worker: str, job: Job, folder: Path, key: str, resources: Resources) -> Handle:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("result.json", "error.json", "progress.json"):
        (folder / stale).unlink(missing_ok=True)
    write_atomically(folder / "job.json", job.model_dump_json(indent=1).encode())
    return launcher.submit(worker, folder, key, resources)


def _follow(launcher: Launcher, handle: Handle, folder: Path) -> tuple[Status, list[str]]:
    """Relay progress until the job has ended; how it did, and the end of its log. It does not survive an error here."""
    last: bytes | str = b""
    try:
        while (status := launcher.status(handle)).state in ("waiting", "running"):
            time.sleep(POLL_SECONDS)
            if status.state == "waiting" and status.reason != last:
                last = status.reason
                progress.report(0, 0, "steps", f"waiting for {status.reason}")
            try:
                content = (folder / "progress.json").read_bytes()
            except FileNotFoundError:
                continue
            if content != last and status.state == "running":
                last = content
                progress.report(**json.loads(content))
        return status, launcher.logs(handle, last=LOG_LINES) if status.exit_code != 0 else []
    finally:
        launcher.cancel(handle, grace_seconds=GRACE_SECONDS)


def _read_result(folder: Path, status: Status, log: list[str], worker: str, result: type[R]) -> R:
    if (reported := _read_json(folder / "error.json")) is not None:
        kind = getattr(errors, reported["kind"], WorkerFailed)
        raise (kind if issubclass(kind, LifecycleError) else WorkerFailed)(reported["message"])
    if status.exit_code == PREEMPTED_EXIT:
        raise Preempted(f"{worker} was told to stop and saved a checkpoint. The same command goes on from it.")
    if status.exit_code != 0 or not (folder / "result.json").exists():
        raise WorkerFailed(
            f"{worker} ended with exit code {status.exit_code} and no result"
            + (f": {status.reason}" if status.reason else "")
            + f". Its log, {folder / 'worker.log'}, ends:\n"
            + "\n".join(f"    {line}" for line in log)
        )
    return result.model_validate_json((folder / "result.json").read_bytes())


def _read_json(path: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
