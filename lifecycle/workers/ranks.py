"""The processes of one node in one attempt: started, asked to stop, found hanging, killed.

Only the standard library: see `workers.node`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from lifecycle.workers import heartbeat
from lifecycle.workers.heartbeat import Silence

DEATH_SECONDS = 20.0
"""How long a killed process may take to die: one that holds a GPU or waits for a file system can take seconds."""
AGENT = ["-m", "torch.distributed.run", "--max-restarts", "0"]
GUARD = ["-m", "lifecycle.workers.guard"]


class Ranks:
    """The worker's processes on this node: ranks under `torch.distributed.run`, or a plain process if it has none."""

    def __init__(
        self, call: dict[str, Any], folder: Path, *, node: int, meeting: dict[str, Any], log: IO[bytes]
    ) -> None:
        """`folder` is where they leave their heartbeats, `meeting` where those of several nodes find each other."""
        here = call["ranks"]
        self.numbers = range(node * here, (node + 1) * here) if here else range(1)
        self.folder, self.log = folder, log
        self.patience, self.start_patience = call["hang_timeout_seconds"], call["start_timeout_seconds"]
        heartbeat.forget(folder, self.numbers)
        self.silence = Silence([folder / f"{rank}.beat" for rank in self.numbers])
        watched = {heartbeat.FOLDER: str(folder)} if self.patience or call["max_restarts"] else {}
        self.mark = call["folder"].encode()
        self.process = subprocess.Popen(
            _command(call, node, meeting),
            env={**os.environ, **watched},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> int | None:
        """The exit code of what was started, as a shell says it; None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def hang(self) -> str:
        """Who has not moved for longer than there is patience; empty while all of them get on."""
        if not self.patience:
            return ""
        silent = self.silence.look()
        for rank, (file, seconds) in zip(self.numbers, silent.items(), strict=True):
            if seconds <= self.patience:
                continue
            last = heartbeat.pulse(file.parent, rank)
            # One that is gone hangs no more: its agent says how it ended, which on a busy machine can take a while.
            trained = last is not None and last.done > 0 and heartbeat.process_state(last.pid) != ""
            if trained or seconds > self.start_patience:
                since = f"since step {last.done}" if last and trained else "and has not finished a step"
                return f"rank {rank} has not moved for {seconds:.0f} s, {since}"
        return ""

    def furthest(self) -> int:
        """The last step that any of them finished; 0 before the first."""
        return max((last.done for rank in self.numbers if (last := heartbeat.pulse(self.folder, rank))), default=0)

    def ask_to_stop(self) -> None:
        """Tell each rank itself. Its agent, told to stop, would kill those that still save after 30 s."""
        for pid in children(self.process.pid) or [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def dump_stacks(self, why: str) -> None:
        """Write into the log what every rank was doing."""
        told = heartbeat.stacks(self.folder, self.numbers, self.mark)
        self.log.write(
            f"---- hang: {why}. What the ranks of this node were doing:\n{told}---- end of stacks\n".encode()
        )
        self.log.flush()

    def kill(self) -> str:
        """End them all. Ranks live in sessions of their own and die with their agent, by the kernel's hand; who did
        not is named, because a GPU that is still held would fail the next attempt.
        """
        family = [self.process.pid, *children(self.process.pid), *self._said()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + DEATH_SECONDS
        while alive := [pid for pid in family[1:] if heartbeat.process_state(pid) not in ("", "?")]:
            if time.monotonic() > deadline:
                states = ", ".join(f"{pid} ({heartbeat.process_state(pid)})" for pid in alive)
                return f"processes that SIGKILL does not end: {states}. This machine needs a look."
            time.sleep(0.02)
        return ""

    def _said(self) -> list[int]:
        """The ranks by what they said, as far as they live: a number may belong to somebody else by now."""
        pids = [last.pid for rank in self.numbers if (last := heartbeat.pulse(self.folder, rank))]
        return [pid for pid in pids if self.mark in heartbeat.command_line(pid)]


def children(pid: int) -> list[int]:
    """The live children of a process, by /proc; none where there is no /proc."""
    try:
        tasks = [folder / "children" for folder in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for file in tasks for child in file.read_text().split()]
    except OSError:
        return []


def _command(call: dict[str, Any], node: int, meeting: dict[str, Any]) -> Sequence[str]:
    guard = [sys.executable, *GUARD, str(os.getpid())]
    worker = [sys.executable, "-m", call["worker"], call["folder"]]
    if call["ranks"] is None:
        return [*guard, *worker]
    place = ["--standalone"]
    if call["nodes"] > 1:
        place = ["--nnodes", str(call["nodes"]), "--node-rank", str(node)]
        place += ["--master-addr", meeting["address"], "--master-port", str(meeting["port"])]
    # Each rank is guarded too, before its imports: one orphaned in those seconds would wait for its peers for minutes.
    rank = ["--nproc-per-node", str(call["ranks"]), "--no-python", sys.executable, *GUARD, "guarded"]
    return [*guard, sys.executable, *AGENT, *place, *rank, *worker]
