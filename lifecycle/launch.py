"""Start a worker, watch it, bring back its result. Stages use this; no heavy import happens on this side.

A job folder holds job.json (what to do), worker.log, metrics.jsonl, progress.json and result.json or error.json.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from lifecycle import errors, progress
from lifecycle.errors import LifecycleError, Preempted, WorkerFailed
from lifecycle.sealing import write_atomically

PREEMPTED_EXIT = 85
PLACE_AMONG_RANKS = frozenset(
    ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
)
POLL_SECONDS = 0.2


class Job(BaseModel):
    """Base of what is handed to a worker; subclasses add fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    out_dir: Path
    """Where the worker writes what will be sealed."""
    scratch_dir: Path
    """Where it keeps what it can resume from; gone once sealed."""


R = TypeVar("R", bound=BaseModel)


def run_worker(worker: str, job: Job, result: type[R], *, ranks: int | None = None, threads: int | None = None) -> R:
    """Run `python -m <worker> <job folder>` to its end and return what it wrote to result.json.

    With `ranks` it runs under `torch.distributed.run`, that many processes on this machine. `threads` caps the threads
    of each process (default: all cores shared out). Raises the worker's own LifecycleError when it reported one,
    WorkerFailed with the end of its log when it died. No process of it survives this one.
    """
    folder = job.out_dir / "log"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("result.json", "error.json", "progress.json"):
        (folder / stale).unlink(missing_ok=True)
    write_atomically(folder / "job.json", job.model_dump_json(indent=1).encode())
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            _command(worker, folder, ranks),
            env=worker_environment(threads or max(1, (os.cpu_count() or 1) // (ranks or 1))),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _watch(process, folder)
        finally:
            _end(process)
    return _read_result(folder, process.returncode, worker, result)


def worker_environment(threads: int) -> Mapping[str, str]:
    """The environment a worker runs in: offline, without telemetry, its threads capped, nothing compiled on the way.

    What places a process among ranks stays behind: whoever starts us under torchrun or a scheduler means himself.
    """
    return {
        **{name: value for name, value in os.environ.items() if name not in PLACE_AMONG_RANKS},
        "OMP_NUM_THREADS": str(threads),
        # A thread that waits for another one sleeps. By default it spins: on a busy machine the one it waits for then
        # gets no core (DPO, 2 threads, beside four other processes: 78 s before the first step, with this 10 s).
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        # glibc hands each freed tensor back to the kernel and faults it in again: keeping it saves 15-25 % of a step.
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


def _command(worker: str, folder: Path, ranks: int | None) -> list[str]:
    guard = [sys.executable, "-m", "lifecycle.workers.guard", str(os.getpid())]
    if ranks is None:
        return [*guard, sys.executable, "-m", worker, str(folder)]
    rendezvous = ["--standalone", "--nproc-per-node", str(ranks), "--max-restarts", "0"]
    # Each rank is guarded too, before its imports: one orphaned in those seconds would wait for its peers for minutes.
    rank = ["--no-python", sys.executable, "-m", "lifecycle.workers.guard", "guarded", sys.executable, "-m", worker]
    return [*guard, sys.executable, "-m", "torch.distributed.run", *rendezvous, *rank, str(folder)]


def _watch(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Relay progress until the worker ends."""
    last = b""
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        try:
            content = (folder / "progress.json").read_bytes()
        except FileNotFoundError:
            continue
        if content != last:
            last = content
            progress.report(**json.loads(content))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no process behind: ask, wait, kill the whole session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_result(folder: Path, code: int, worker: str, result: type[R]) -> R:
    if (reported := _read_json(folder / "error.json")) is not None:
        kind = getattr(errors, reported["kind"], WorkerFailed)
        raise (kind if issubclass(kind, LifecycleError) else WorkerFailed)(reported["message"])
    if code == PREEMPTED_EXIT:
        raise Preempted(f"{worker} was told to stop and saved a checkpoint. The same command goes on from it.")
    if code != 0 or not (folder / "result.json").exists():
        tail = (folder / "worker.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
        raise WorkerFailed(
            f"{worker} ended with exit code {code} and no result. Its log, {folder / 'worker.log'}, ends:\n"
            + "\n".join(f"    {line}" for line in tail)
        )
    return result.model_validate_json((folder / "result.json").read_bytes())


def _read_json(path: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
