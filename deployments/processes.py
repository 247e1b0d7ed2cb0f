"""Processes that outlive the command that started them: found again by id and moment of birth, and ended."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def taken(port: int) -> OSError | None:
    """Why nobody can listen on a port of the loopback; None when one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def born(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def end(pid: int, ask: signal.Signals, *, seconds: float) -> None:
    """Ask a server to end, wait, and kill what is left of its session."""
    os.kill(pid, ask)
    deadline = time.monotonic() + seconds
    while born(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
