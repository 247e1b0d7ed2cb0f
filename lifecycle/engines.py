"""Engines of this machine: threads, and processes of which any may be lost. A cluster's is in tasks/.

Not `concurrent.futures.ProcessPoolExecutor`: one process that is killed breaks the whole pool, and nobody learns which
task it had; and its `spawn` imports the flow's module, and with it Prefect, in every worker (2-5 s).
"""

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from lifecycle.errors import WorkerFailed, WorkerLost
from lifecycle.spread import Engine

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3  # a worker lost once or twice is an accident; the third time it is the task
# As many workers as cores, one thread each: threads of several workers that spin for each other cost ten times over.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
log = logging.getLogger(__name__)


class Threads:
    """Tasks in threads of this process: for work that waits for files, or computes in compiled loops.

    Nothing can end a thread at work: on an interrupt each finishes its task.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self) -> int:
        return self._threads

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        return work(task)

    def close(self) -> None:
        pass


class Processes:
    """Tasks in processes of one thread each, one for each thread that waits; they die with this process."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._own = threading.local()
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._closed = False

    def open(self) -> int:
        return self._processes

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        message = pickle.dumps((work, task), protocol=pickle.HIGHEST_PROTOCOL)
        worker = self._worker()
        try:
            failed, answer = worker.answer(message)
        except (EOFError, OSError):
            self._own.worker = None
            with self._lock:
                self._workers.discard(worker)
            raise WorkerLost(worker.last_words()) from None
        if failed:
            raise cast("Exception", answer)
        return cast("R", answer)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()

    def _worker(self) -> "_Worker":
        """This thread's worker, started by the thread that uses it: the kernel ends it when that thread ends."""
        worker: _Worker | None = getattr(self._own, "worker", None)
        with self._lock:
            if self._closed:
                raise WorkerFailed("expected an open engine, found it closed: no task is started any more.")
            if worker is None:
                worker = self._own.worker = _Worker()
                self._workers.add(worker)
        return worker


class _Worker:
    """A process that answers one task after the other, `lifecycle.workers.spread`, and what it prints on its way."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this; a pipe would need a reader
        with theirs:
            guard = [sys.executable, "-m", "lifecycle.workers.guard", str(os.getpid())]
            self._process = subprocess.Popen(
                [*guard, sys.executable, "-m", "lifecycle.workers.spread", str(theirs.fileno())],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the flow, which ends its workers
            )
        self._connection = Connection(ours.detach())

    def answer(self, message: bytes) -> tuple[bool, Any]:
        """Whether the task failed, and its result or error; EOFError or OSError when the worker is gone."""
        self._connection.send_bytes(message)
        failed, answer = self._connection.recv()
        return failed, answer

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """How it died, with the end of what it printed."""
        self._connection.close()
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()[-15:]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = " That is how the kernel frees memory: use fewer workers." if code == -signal.SIGKILL else ""
        return "\n    ".join([f"expected a result, found its worker ended by {how}.{hint}", *lines])


class TryingAgain:
    """An engine with every task whose worker was lost tried again, up to ATTEMPTS times in all."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.open, self.close = engine.open, engine.close

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        attempt = 1
        while True:
            try:
                return self._engine.compute(work, task, name=name)
            except WorkerLost as lost:
                if attempt == ATTEMPTS:
                    raise WorkerLost(f"{lost}\nTried {ATTEMPTS} times.") from None
                log.warning("%s: %s It is tried again.", name, lost)
            attempt += 1
