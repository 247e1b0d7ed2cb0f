"""Become another command that dies with the process that wanted it: `-m lifecycle.workers.guard PARENT COMMAND...`.

PARENT is a process id, or `guarded`: the guarded process that started this one, as torchrun's agent starts its ranks.
Only the standard library: this start costs 20 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
GUARDED_PID = "LIFECYCLE_GUARDED_PID"  # a guarded process keeps its id through exec, and its children read it here


def die_with_parent(parent: int | None = None, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send a signal to this process when its parent dies (Linux; elsewhere this does nothing)."""
    if not sys.platform.startswith("linux"):
        return
    expected = os.getppid() if parent is None else parent
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != expected:  # it died before we asked
        os.kill(os.getpid(), by)


if __name__ == "__main__":
    die_with_parent(int(os.environ[GUARDED_PID] if sys.argv[1] == "guarded" else sys.argv[1]))
    os.environ[GUARDED_PID] = str(os.getpid())
    os.execvp(sys.argv[2], sys.argv[2:])
