"""The doorway of every worker: read the job, do it, leave metrics, progress and a result."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from lifecycle.errors import LifecycleError
from lifecycle.launch import Job
from lifecycle.sealing import write_atomically
from lifecycle.workers.guard import die_with_parent

J = TypeVar("J", bound=Job)

log = logging.getLogger(__name__)


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class Recorder:
    """Where a worker leaves what it measures. Only rank 0 writes; on other ranks every call does nothing."""

    PROGRESS_SECONDS = 0.25  # a report costs 0.1 ms, a person sees four a second

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        now = time.monotonic()
        if rank() == 0 and (done >= total or now - self._last_progress >= self.PROGRESS_SECONDS):
            self._last_progress = now
            report = {"done": done, "total": total, "unit": unit, "note": note}
            path = self.folder / "progress.json"
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(report))
            temporary.rename(path)


def run(kind: type[J], work: Callable[[J, Recorder], BaseModel | None], argv: list[str] | None = None) -> None:
    """Do the job in the folder named on the command line. A LifecycleError is reported, any other error is raised."""
    die_with_parent()
    folder = Path((argv or sys.argv)[1])
    try:
        result = work(kind.model_validate_json((folder / "job.json").read_bytes()), Recorder(folder))
    except LifecycleError as error:
        report: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
        write_atomically(folder / "error.json", json.dumps(report).encode())
        _leave(error.exit_code)
    if result is not None and rank() == 0:
        write_atomically(folder / "result.json", result.model_dump_json(indent=1).encode())
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End at once: all is written, and taking an interpreter with torch and transformers apart costs 0.9 s of CPU."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
