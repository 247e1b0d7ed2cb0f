"""Who lets a job in where accelerators are shared out by more than this machine's own locks, and for whom it runs.

Stages and launchers know no orchestrator: tasks put a doorkeeper here, and without one everybody may enter.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol


class Doorkeeper(Protocol):
    """Shares out accelerators over all machines of a house."""

    @property
    def run(self) -> str:
        """Whose jobs are let in; said to those that wait."""
        ...

    def admit(self, accelerators: int) -> AbstractContextManager[None]:
        """Wait for so many, and hold them for the length of the block."""
        ...


_doorkeeper: ContextVar[Doorkeeper | None] = ContextVar("doorkeeper", default=None)


@contextmanager
def asking(doorkeeper: Doorkeeper) -> Iterator[None]:
    """Have jobs that start inside the block ask a doorkeeper first."""
    token = _doorkeeper.set(doorkeeper)
    try:
        yield
    finally:
        _doorkeeper.reset(token)


def admitted(accelerators: int) -> AbstractContextManager[None]:
    """A block in which a job may use so many accelerators; 0 needs nobody's leave."""
    doorkeeper = _doorkeeper.get()
    return nullcontext() if doorkeeper is None or not accelerators else doorkeeper.admit(accelerators)


def run() -> str:
    """The run that jobs are started for; empty when nobody said."""
    doorkeeper = _doorkeeper.get()
    return "" if doorkeeper is None else doorkeeper.run
