"""Where the shards of a stage are worked on, as a request says; every one of them is a Prefect task run.

The task run lives in the flow's process, in a thread that waits for the engine: what goes to a worker is a function's
name and a few paths, and a worker needs neither Prefect nor its server. (prefect-dask moves the task run itself: each
worker then needs the server, and gets its password, since Prefect's settings travel with every task.)
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from lifecycle.engines import ATTEMPTS, Processes, Threads
from lifecycle.errors import WorkerLost
from lifecycle.spread import Engine, Here
from tasks.cluster import Cluster
from tasks.session import Request, Session

T = TypeVar("T")
R = TypeVar("R")


def engine_of(session: Session, stage: str) -> Engine:
    """The engine a request asks for, with a Prefect task run for each task of this stage."""
    return PrefectRuns(_inner(session.request, session), stage)


class PrefectRuns:
    """An engine whose every task is a Prefect task run named after it; only a lost worker is a reason to retry."""

    def __init__(self, inner: Engine, stage: str) -> None:
        self._inner = inner
        self._run = _shard.with_options(name=f"{stage}-shard")
        self.open, self.close = inner.open, inner.close

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        try:
            return cast("R", self._run(name, partial(self._inner.compute, work, task, name=name)))
        except WorkerLost as lost:
            raise WorkerLost(f"{lost}\nTried {ATTEMPTS} times.") from None


def _inner(request: Request, session: Session) -> Engine:
    workers = request.workers or os.cpu_count() or 1
    if request.cluster:
        return Cluster(request.cluster, shared=session.store.root, workers=request.workers or 1)
    if request.engine == "threads":
        return Threads(workers)
    return Processes(workers) if request.engine == "processes" else Here()


def _was_lost(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, WorkerLost)


# No tag: each costs a request for its slot, 3 to 180 ms a shard where the rest of a task run is 5 ms.
@task(
    task_run_name="{name}",
    retries=ATTEMPTS - 1,
    retry_condition_fn=_was_lost,
    cache_policy=NO_CACHE,
    persist_result=False,
    log_prints=False,
)
def _shard(name: str, compute: Callable[[], Any]) -> Any:
    return compute()
