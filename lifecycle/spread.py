"""Many tasks of one kind: a stage says what is to be done, an engine says where.

What `work` must be, so that every engine gives the same bytes:
- a function of a module (or a partial of one), and a function of its task and the files that the task names;
- small in what it takes and returns, and both can be pickled: text travels in files of the stage's scratch folder;
- able to run twice: a worker may be lost half-way and its task tried again, so a file is written whole, by rename.
"""

import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, NoReturn, Protocol, TypeVar

from lifecycle import progress
from lifecycle.errors import LifecycleError, Preempted

T = TypeVar("T")
R = TypeVar("R")
Names = Callable[[int], str]


class Engine(Protocol):
    """Where tasks run. It starts with the first task: a stage that is reused starts nothing."""

    def open(self) -> int:
        """Start, and say how many tasks may run at a time."""
        ...

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        """The result of one task, or its error. Called by as many threads as `open` said; each waits for its task."""
        ...

    def close(self) -> None:
        """End all workers, at work or not: what still waits for one gets an error."""
        ...


class Here:
    """Tasks one by one in this process: what is used where no engine was named."""

    def open(self) -> int:
        return 1

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        return work(task)

    def close(self) -> None:
        pass


def spread(
    work: Callable[[T], R], tasks: Sequence[T], *, unit: str, name: Callable[[T], str] | None = None, note: str = ""
) -> list[R]:
    """`work` of every task, in the order of `tasks`, done where the engine says.

    Reports `unit`s done as progress. Of several errors that of the first task is raised, with the task named: the same
    one on every engine. No task is started after an error.
    """
    if not tasks:
        return []
    names = _names(tasks, note or unit, name)
    results: dict[int, R] = {}

    def ended(place: int, result: R) -> None:
        results[place] = result
        progress.report(len(results), len(tasks), unit, note)

    over = _over.get()
    (_one_by_one if over.open() == 1 else _beside_each_other)(over, work, tasks, names, ended)
    return [results[place] for place in range(len(tasks))]


@contextmanager
def spreading_over(engine: Engine) -> Iterator[None]:
    """Run what is spread inside the block on `engine`; however the block is left, no worker of it stays."""
    over = _Over(engine)
    token = _over.set(over)
    try:
        yield
    finally:
        _over.reset(token)
        over.close()


class _Over:
    """An engine, and the threads that wait for its tasks. They live as long as it does: workers die with them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads: ThreadPoolExecutor | None = None
        self._slots = 0

    def open(self) -> int:
        if not self._slots:
            self._slots = self._engine.open()
            self._threads = ThreadPoolExecutor(self._slots, "spread") if self._slots > 1 else None
        return self._slots

    def submit(self, work: Callable[[T], R], task: T, name: str) -> "Future[R]":
        assert self._threads is not None
        return self._threads.submit(contextvars.copy_context().run, self.compute, work, task, name)

    def compute(self, work: Callable[[T], R], task: T, name: str) -> R:
        token = _over.set(_HERE)  # what a task spreads in turn runs where the task runs: the threads are taken
        try:
            with progress.listening(_nobody):  # several tasks at a time are not one progress
                return self._engine.compute(work, task, name=name)
        finally:
            _over.reset(token)

    def close(self) -> None:
        self._engine.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


_HERE = _Over(Here())
_over: ContextVar[_Over] = ContextVar("spread_over", default=_HERE)


def _one_by_one(
    over: _Over,
    work: Callable[[T], R],
    tasks: Sequence[T],
    names: Names,
    ended: Callable[[int, R], None],
) -> None:
    for place, task in enumerate(tasks):
        try:
            result = over.compute(work, task, names(place))
        except Exception as error:
            _raise(error, names(place))
        ended(place, result)


def _beside_each_other(
    over: _Over,
    work: Callable[[T], R],
    tasks: Sequence[T],
    names: Names,
    ended: Callable[[int, R], None],
) -> None:
    waiting = iter(range(len(tasks)))
    running: dict[Future[R], int] = {}
    failed: dict[int, Exception] = {}
    while True:
        for place in islice(waiting, over.open() - len(running)):  # no more than run: what waits costs no memory
            running[over.submit(work, tasks[place], names(place))] = place
        # After an error nothing is started, but earlier tasks are at work still, and the first error is wanted.
        if not running or (failed and min(running.values()) > min(failed)):
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            place = running.pop(future)
            if (error := future.exception()) is None:
                ended(place, future.result())
            elif isinstance(error, Exception):
                failed[place], waiting = error, iter(())
            else:
                raise error
    if failed:
        first = min(failed)
        _raise(failed[first], names(first))


def _names(tasks: Sequence[Any], about: str, name: Callable[[Any], str] | None) -> Names:
    return lambda place: f"{about} {name(tasks[place]) if name else f'{place + 1} of {len(tasks)}'}"


def _raise(error: Exception, name: str) -> NoReturn:
    """Raise the error with its task named: in the message of ours, which is all people see, as a note of others."""
    if isinstance(error, LifecycleError) and not isinstance(error, Preempted):
        raise type(error)(f"{name}: {error}") from error
    error.add_note(f"in the task {name!r}")
    raise error


def _nobody(_report: progress.Progress) -> None:
    pass
