"""An engine on a Dask cluster that is running already: `distributed` alone, and only here.

Workers need this package and the store's file system, no Prefect, no tracker and no secret of theirs: a task that goes
there holds a function's name and a few paths. The scheduler gives the tasks of a dead worker to others by itself.
"""

import importlib.metadata
import logging
import platform
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import uuid4

from lifecycle.errors import ConfigError, WorkerFailed
from lifecycle.sealing import short_digest
from lifecycle.source import PACKAGE, source_closure

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 30
JOIN_SECONDS = 300
POLL_SECONDS = 10
# A file system of many machines may show a new file late: NFS remembers what a folder lacks for some seconds.
SEE_SECONDS = 10
COMPUTE_BYTES = ("numpy", "numba", "orjson", "pyarrow", "regex")  # packages whose version may change a result
log = logging.getLogger(__name__)


class Cluster:
    """Tasks on the workers of a Dask scheduler, twice as many at a time as they have threads."""

    def __init__(self, address: str, *, shared: Path, workers: int) -> None:
        self._address = address
        self._workers = workers
        self._client: Client | None = None
        self._probe = shared / f".seen-by-workers-{uuid4().hex}"

    def open(self) -> int:
        self._client = _connected(self._address, self._workers)
        self._client.subscribe_topic("all", _tell_of_lost)
        self._probe.touch()
        # Two a thread: the next one is there when a worker ends one.
        return int(2 * sum(self._client.nthreads().values()))

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        assert self._client is not None
        house, key = House(self._probe, versions(work)), f"{name}-{uuid4().hex[:8]}"
        future = self._client.submit(in_the_same_house, house, work, task, key=key, pure=False)
        self._wait_for(future)
        if future.status not in ("finished", "error"):
            raise WorkerFailed(
                f"expected the Dask scheduler {self._address} to go on, found it gone ({future.status}). Start it "
                "again; the same command makes the stage anew."
            )
        error = future.exception() if future.status == "error" else None
        if isinstance(error, ModuleNotFoundError):
            raise ConfigError(
                f"expected workers that have this package installed, found one without: {error}. Give the workers the "
                "environment of the flow and start them again."
            )
        if type(error).__name__ == "KilledWorker":
            raise WorkerFailed(
                f"expected a result, found every worker dead that had this task: {error} If memory ran out, give each "
                "worker more of it."
            )
        return future.result()  # type: ignore[no-any-return]

    def _wait_for(self, future: "Future[Any]") -> None:
        """Until it has ended; a cluster whose last worker is gone for good must not be waited for without an end."""
        assert self._client is not None
        ended, alone_since = threading.Event(), None
        future.add_done_callback(lambda _: ended.set())
        while not ended.wait(POLL_SECONDS):
            alone = not self._client.nthreads()
            alone_since = (alone_since or time.monotonic()) if alone else None
            if alone_since is not None and time.monotonic() - alone_since > JOIN_SECONDS:
                raise WorkerFailed(
                    f"expected workers at {self._address}, found none for {JOIN_SECONDS} s. Start some "
                    f"(`dask worker {self._address} --nthreads 1`); the same command makes the stage anew."
                )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._probe.unlink(missing_ok=True)


class House(NamedTuple):
    """What a worker must have in common with the flow: a file it can see, and code that computes the same bytes."""

    probe: Path
    versions: Mapping[str, str]


def in_the_same_house(house: House, work: Callable[[T], R], task: T) -> R:
    """Runs on the worker: its result, if it is a worker that may compute it."""
    _check_sight(house.probe)
    _check_versions(tuple(house.versions.items()), tuple(versions(work).items()))
    return work(task)


@cache  # once a process and run
def _check_sight(probe: Path) -> None:
    deadline = time.monotonic() + SEE_SECONDS
    while not probe.exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"expected a worker on {platform.node()} to see the store {probe.parent}, found nothing there. The "
                "store must lie on a file system that every worker has mounted at the same path: --store."
            )
        time.sleep(0.5)


@cache
def _check_versions(of_flow: tuple[tuple[str, str], ...], mine: tuple[tuple[str, str], ...]) -> None:
    pairs = zip(of_flow, mine, strict=True)
    if differences := [f"{name} {here}, not {there}" for (name, there), (_, here) in pairs if here != there]:
        raise ConfigError(
            f"expected a worker on {platform.node()} to run the code of this flow, found: {'; '.join(differences)}. "
            "Give the workers the environment of the flow and start them again: other code may compute other bytes."
        )


def versions(work: Callable[..., Any]) -> Mapping[str, str]:
    """What decides about the bytes that `work` makes, each with its version."""
    while isinstance(work, partial):
        work = work.func
    return _versions(work)


@cache
def _versions(function: Callable[..., Any]) -> Mapping[str, str]:
    packages = {name: importlib.metadata.version(name) for name in COMPUTE_BYTES}
    code = short_digest(source_closure(function))
    return {PACKAGE: code, "python": platform.python_version(), **packages}


def _connected(address: str, workers: int) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            'expected the package `distributed`, found none. pip install "llm-lifecycle[dask]".'
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        client.wait_for_workers(workers, timeout=JOIN_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"expected a Dask scheduler at {address} with {workers} workers or more, found: {error}. Start them "
            f"(`dask scheduler`, `dask worker {address} --nthreads 1`), or use --engine processes."
        ) from error
    return client


def _tell_of_lost(event: tuple[float, Any]) -> None:
    _, message = event
    if isinstance(message, dict) and message.get("action") == "remove-worker":
        log.warning(
            "the cluster lost the worker %s; others do what it had in hand: %s",
            message.get("worker"),
            ", ".join(sorted(message.get("processing-tasks", ()))) or "nothing",
        )
