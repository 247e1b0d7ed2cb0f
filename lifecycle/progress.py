"""How far a stage is: stages and workers report here, whoever shows progress listens.

Knows nothing of terminals or servers. With no listener a report costs one variable read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report: `done` of `total` `unit`s, and optionally the number worth watching."""

    done: float
    total: float
    unit: str
    note: str = ""

    @property
    def share(self) -> float:
        """Finished share in [0, 1]; 0 when nothing is known of the total."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("progress_listener", default=None)


def report(done: float, total: float, unit: str, note: str = "") -> None:
    """Tell the listener, if there is one."""
    if (listener := _listener.get()) is not None:
        listener(Progress(done, total, unit, note))


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Send every report made inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
