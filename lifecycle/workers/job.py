"""The doorway of every worker: read the job, do it, leave metrics, progress and a result."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel

from lifecycle.errors import LifecycleError, WorkerFailed
from lifecycle.launch import Job
from lifecycle.sealing import write_atomically
from lifecycle.workers.guard import die_with_parent
from lifecycle.workers.heartbeat import Heartbeat

J = TypeVar("J", bound=Job)

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")  # torch's, by name: this module is imported without torch

log = logging.getLogger(__name__)


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class Recorder:
    """Where a worker leaves what it measures. Only rank 0 writes; other ranks leave nothing but signs of life."""

    PROGRESS_SECONDS = 0.25  # a report costs 0.1 ms, a person sees four a second

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heartbeat = Heartbeat.of_this_process()
        self._last_progress = 0.0

    def resume_at(self, step: int, *, measured_after: str = "") -> None:
        """Forget metrics after `step`, and rows of `step` itself that hold `measured_after`: they will come again."""
        path = self.folder / "metrics.jsonl"
        if rank() == 0 and path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            rows = [(line, json.loads(line)) for line in lines if line.endswith(b"\n")]
            kept = [line for line, row in rows if (row["step"], measured_after in row) <= (step, False)]
            write_atomically(path, b"".join(kept))

    def metrics(self, step: int, **values: float) -> None:
        """Append one row to metrics.jsonl."""
        if rank() == 0:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")

    def finding(self, step: int, rule: str, action: str, evidence: str) -> None:
        """Append one row to findings.jsonl, and say it in the log. A resumed run finds again what is there already."""
        if rank() == 0:
            log.warning("step %d, %s (%s): %s", step, rule, action, evidence)
            row = json.dumps({"step": step, "rule": rule, "action": action, "evidence": evidence})
            with (self.folder / "findings.jsonl").open("a+", encoding="utf-8") as file:
                file.seek(0)
                if row not in file.read().splitlines():
                    file.write(row + "\n")

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Say how far the worker is; calls that come too fast are dropped, the last one never."""
        self.heartbeat.beat(int(done))
        now = time.monotonic()
        if rank() == 0 and (done >= total or now - self._last_progress >= self.PROGRESS_SECONDS):
            self._last_progress = now
            report = {"done": done, "total": total, "unit": unit, "note": note}
            path = self.folder / "progress.json"
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(report))
            temporary.rename(path)

    def alive(self) -> None:
        """Say that this rank gets on, where that is no step: in a long validation, before and after a save."""
        self.heartbeat.beat()


def run(kind: type[J], work: Callable[[J, Recorder], BaseModel | None], argv: list[str] | None = None) -> None:
    """Do the job in the folder named on the command line. A LifecycleError is reported, any other error is raised."""
    die_with_parent()
    folder = Path((argv or sys.argv)[1])
    try:
        result = work(kind.model_validate_json((folder / "job.json").read_bytes()), Recorder(folder))
    except LifecycleError as error:
        _report(folder, type(error).__name__, str(error))
        _leave(error.exit_code)
    except Exception as error:
        if type(error).__name__ in OUT_OF_MEMORY:  # reported, it is not tried again: it would end in the same way
            found = f"{type(error).__name__}: {error}"
            message = f"expected the job to fit into memory, found {found}. Make it smaller, or use more ranks."
            _report(folder, WorkerFailed.__name__, message)
        raise
    if result is not None and rank() == 0:
        write_atomically(folder / "result.json", result.model_dump_json(indent=1).encode())
    _leave(0)


def _report(folder: Path, kind: str, message: str) -> None:
    write_atomically(folder / "error.json", json.dumps({"kind": kind, "message": message}).encode())


def _leave(code: int) -> NoReturn:
    """End at once: all is written, and taking an interpreter with torch and transformers apart costs 0.9 s of CPU."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
