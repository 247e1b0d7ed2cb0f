"""An alarm for a stage or a run that takes much longer than it should, while it still runs. It stops nothing."""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lifecycle.report.key_numbers import duration
from tasks import events

if TYPE_CHECKING:
    from tasks.session import Session

# Stages of seconds wait for a disk or a neighbour: three times two seconds is no news.
FACTOR, LEAST_SECONDS = 3.0, 120.0


@contextmanager
def watching_run(session: "Session") -> Iterator[None]:
    """Alarm when the run takes longer than the request's `budget_hours`; without one, than its stages usually do."""
    asked = session.request.budget_hours * 3600
    usual = sum(session.expected_seconds.values())
    why = "asked for with budget_hours" if asked else f"{FACTOR:g} times what its stages usually take"
    with _watching(session, "run", asked or allowed(usual), why):
        yield


@contextmanager
def watching_stage(session: "Session", stage: str, name: str) -> Iterator[None]:
    """Alarm when a stage takes much longer than it last took, or than the recipe says it does."""
    usual = session.expected_seconds.get(stage, 0.0)
    with _watching(session, name, allowed(usual), f"{FACTOR:g} times what it usually takes"):
        yield


def allowed(usual: float) -> float:
    """Seconds that are no news where `usual` is what it takes; 0 where nobody knows what that is."""
    return max(FACTOR * usual, LEAST_SECONDS) if usual else 0.0


@contextmanager
def _watching(session: "Session", what: str, seconds: float, why: str) -> Iterator[None]:
    if not seconds:
        yield
        return
    name = session.run.name
    message = f"{what} of {name} takes longer than {duration(seconds)}, {why}. It goes on."

    def alarm() -> None:
        session.display.say(f"budget: {message}")
        events.tell(events.BUDGET_EXCEEDED, about, name, message, {"what": what, "budget_seconds": seconds})

    about = f"{events.first_run()}.{what}"
    # The flow run is known by context: an event from another thread would belong to no run.
    timer = threading.Timer(seconds, contextvars.copy_context().run, [alarm])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
