"""A Dask cluster of processes of this machine, started the way people start one, whose workers can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType


class DaskCluster:
    """A scheduler and workers of one thread, without nannies: a worker that is killed stays dead."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.workers = [self.add_worker() for _ in range(workers)]
        deadline = time.monotonic() + 60
        while not self._file.exists():
            assert time.monotonic() < deadline, (folder / "dask_scheduler.log").read_text()
            time.sleep(0.05)
        self.address: str = json.loads(self._file.read_text())["address"]

    def add_worker(self) -> "subprocess.Popen[bytes]":
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self._folder)]
        return self._start("dask_worker", *options)

    def kill_a_worker(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        worker = self.workers.pop(0)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def __enter__(self) -> "DaskCluster":
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()

    def _start(self, program: str, *options: str) -> "subprocess.Popen[bytes]":
        guard = [sys.executable, "-m", "lifecycle.workers.guard", str(os.getpid())]
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(self._file), *options]
        with (self._folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [*guard, *command],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
