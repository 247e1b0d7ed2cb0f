"""Being told to stop, by whoever runs the machine: a scheduler, Kubernetes, a person."""

import signal
from types import FrameType


class StopRequest:
    """Remembers a SIGTERM until the loop asks; a second one changes nothing, so a save is never cut in half."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> "StopRequest":
        signal.signal(signal.SIGTERM, self._hear)
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
