"""Workers forked from a process that holds their libraries: one starts in 50 ms of CPU, not in 7 to 12 s.

A bench of hundreds of short trainings would spend most of its time importing torch. The worker, its job folder and how
its end is read are those of `lifecycle.launch`; only its start is another, with one rank and one thread.
"""

import contextlib
import importlib
import os
import resource
import runpy
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel

from lifecycle import launch
from lifecycle.launch import LOG_LINES, Job
from lifecycle.launchers.environment import worker_settings
from lifecycle.launchers.local import tail
from lifecycle.launchers.shape import Status
from lifecycle.sealing import write_atomically

R = TypeVar("R", bound=BaseModel)
WORKERS = ("sft", "preference", "evaluate", "pretrain")
LOOK_SECONDS = 0.1
WARM = "LIFECYCLE_BENCH_WARM"

limits: dict[str, dict[int, int]] = {}
"""Of `resource.setrlimit`, by worker: what is planted in this process. RLIMIT_RSS, which Linux forgot, is kept here."""


def start() -> None:
    """Hold every worker's libraries, with the environment that a launcher gives workers: it is read at start."""
    if WARM not in os.environ:
        environment = {**os.environ, **worker_settings(1), WARM: "1"}
        os.execve(sys.executable, [sys.executable, "-m", _program(), *sys.argv[1:]], environment)
    for worker in WORKERS:
        importlib.import_module(f"lifecycle.workers.{worker}")


def fork_workers_of(*stages: ModuleType) -> None:
    """Let these stages fork their workers from this process."""
    for stage in stages:
        stage.run_worker = run_worker  # type: ignore[attr-defined]


def run_worker(worker: str, job: Job, result: type[R], **_: Any) -> R:
    """What `launch.run_worker` does, for one rank."""
    folder = (job.out_dir / "log").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("result.json", "error.json", "progress.json"):
        (folder / stale).unlink(missing_ok=True)
    write_atomically(folder / "job.json", job.model_dump_json(indent=1).encode())
    child = os.fork()
    if not child:
        _become(worker, str(folder))
    code = os.waitstatus_to_exitcode(_wait(child, limits.get(worker, {}).get(resource.RLIMIT_RSS)))
    reason = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
    status, log = Status(state="ended", exit_code=code, reason=reason), tail(folder / "worker.log", LOG_LINES)
    return launch._read_result(folder, status, log, worker, result)


def _become(worker: str, folder: str) -> None:
    """Be the worker; it leaves the process itself when it is done."""
    with contextlib.suppress(BaseException):
        out = os.open(f"{folder}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = [worker, folder]
        for what, limit in limits.get(worker, {}).items():
            resource.setrlimit(what, (limit, limit))
        try:
            runpy.run_module(worker, run_name="__main__")
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
    os._exit(1)


def _wait(child: int, memory: int | None) -> int:
    """Its wait status. One that holds more than `memory` bytes beyond what it began with is killed, as in a container.

    RLIMIT_DATA was tried: torch then waits for ever for a thread that could not be started.
    """
    began = _resident(child) if memory else 0
    while memory:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if _resident(child) > began + memory:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(LOOK_SECONDS)
    return os.waitpid(child, 0)[1]


def _resident(process: int) -> int:
    """Bytes of its own that a process holds."""
    words = Path(f"/proc/{process}/statm").read_text().split()
    return (int(words[1]) - int(words[2])) * resource.getpagesize()


def _program() -> str:
    """The name under which the running program was started with -m."""
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    return spec.name
