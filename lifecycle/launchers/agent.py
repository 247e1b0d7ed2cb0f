"""The agent of one node: waits at the board, takes its part in one job after another, and owns their processes."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lifecycle.errors import ConfigError
from lifecycle.launchers.environment import worker_environment
from lifecycle.launchers.local import NODE
from lifecycle.launchers.shape import Call
from lifecycle.launchers.static_nodes import open_calls
from lifecycle.sealing import write_atomically

POLL_SECONDS = 0.2
GRACE_SECONDS = 25.0  # those that stop an agent kill it after 30 s: systemd's default is 90, Kubernetes' and Slurm's 30


class Agent:
    """Node `number` of a cluster that shares `board`. SIGTERM has the ranks of the running job save and leave."""

    def __init__(self, board: Path, number: int, *, address: str | None, tell: Callable[[str], None]) -> None:
        """`address` is how the other nodes reach this one; without it, by its host name."""
        self.board, self.number, self.tell = board.absolute(), number, tell
        self.place = {"LIFECYCLE_NODE_ADDRESS": address} if address else {}
        self._stopping = False
        board.mkdir(parents=True, exist_ok=True)

    def serve(self, *, once: bool = False) -> None:
        """Take part in every job there is for this node, the oldest first; with `once`, in one."""
        signal.signal(signal.SIGTERM, self._stop)
        with self._only_one():
            self.tell(f"node {self.number} waits for jobs in {self.board}")
            while not self._stopping:
                if calls := open_calls(self.board, self.number):
                    self.take_part(calls[0])
                    if once:
                        return
                time.sleep(POLL_SECONDS)

    def take_part(self, folder: Path) -> None:
        """Run this node's part in the job of a call, to its end."""
        self.tell(f"node {self.number} takes part in {folder.name}")
        threads = Call.model_validate_json((folder / "call.json").read_bytes()).threads
        process = subprocess.Popen(
            [sys.executable, "-m", NODE, str(os.getpid()), str(folder), str(self.number)],
            env={**worker_environment(threads), **self.place},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        kill_at: float | None = None
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if self._stopping and kill_at is None:
                process.terminate()
                kill_at = time.monotonic() + GRACE_SECONDS
            if kill_at is not None and time.monotonic() > kill_at:
                process.kill()
        said = (folder / "ended.json").exists() or not (folder / "call.json").exists()
        if process.returncode > 0 and self.number == 0 and not said:  # it would fail again, before all later calls
            why = f"node 0 could not begin (exit code {process.returncode}); its agent's output has the reason"
            write_atomically(folder / "ended.json", json.dumps({"code": process.returncode, "reason": why}).encode())
        self.tell(f"node {self.number} is done with {folder.name}")

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Hold the place of this node; the kernel frees it when the agent dies, however it dies."""
        with (self.board / f"node-{self.number}.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"expected to be the only agent of node {self.number}, found another one at work in {self.board}. "
                    "Give this machine another --node-rank."
                ) from error
            yield
