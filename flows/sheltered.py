"""What a worker starts for each run: Prefect's engine, kept from dying before its ranks have saved.

    worker -> this -> keeper -> prefect.engine -> node -> ranks

A process worker that is told to stop kills its runs at once (Prefect 3.8: 0.2 s after SIGTERM no rank was left, and no
checkpoint); one that is killed itself leaves them running with nobody to cancel them. Here both mean SIGTERM to the
engine: ranks save, the run is reported as crashed, and an automation starts it again. The worker's own SIGTERM, by
which it cancels a run, is passed on.

Only the standard library, and no Prefect: this costs 40 ms before the engine starts.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from threading import Thread

from lifecycle.workers.guard import die_with_parent

KEEP = "keep"
GRACE_SECONDS = 28
"""What the engine has to end in: Prefect's worker kills after 30 s, and `lifecycle.launch` gives ranks 25 of them."""


def main(arguments: Sequence[str]) -> int:
    """Be what the worker sees, or with `keep` the one above the engine; the engine's exit code."""
    if arguments == [KEEP]:
        return Shelter([sys.executable, "-m", "prefect.engine"], when_we_die=signal.SIGKILL, grace=GRACE_SECONDS).wait()
    die_with_parent()
    return Shelter([sys.executable, "-m", "flows.sheltered", KEEP], when_we_die=signal.SIGTERM).wait()


class Shelter:
    """A child that gets SIGTERM when we do, and a signal from the kernel when we die."""

    def __init__(self, command: Sequence[str], *, when_we_die: signal.Signals, grace: int = 0) -> None:
        """`grace` is how many seconds it has to end once it was told; 0: as many as it likes."""
        self._grace, self._told = grace, False
        self._process: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGALRM, self._kill)
        # In a session of its own: what is sent to the group of the worker's child reaches the engine once, by us.
        dies_with_us = partial(die_with_parent, os.getpid(), when_we_die)
        self._process = subprocess.Popen(
            command, preexec_fn=dies_with_us, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if self._told:  # before there was anybody to be told
            self._process.terminate()

    def wait(self) -> int:
        """Its exit code, as a shell says it."""
        assert self._process is not None
        relay = Thread(target=self._relay, daemon=True)
        relay.start()
        code = self._process.wait()
        relay.join(1)  # what was printed last; whoever else has the pipe is not waited for
        return code if code >= 0 else 128 - code

    def _relay(self) -> None:
        """Pass on what it prints. With nobody left to read, its own print would end it (rich: SystemExit)."""
        assert self._process is not None
        assert self._process.stdout is not None
        while said := os.read(self._process.stdout.fileno(), 2**16):
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), said)

    def _tell(self, *_: object) -> None:
        self._told = True
        signal.alarm(self._grace)
        if self._process is not None:
            self._process.terminate()

    def _kill(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
