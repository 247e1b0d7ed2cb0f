"""Signs of life: what a rank leaves with each step, and what whoever watches it makes of that.

Only the standard library: the watcher (`workers.node`) starts in 50 ms and lives as long as the ranks.
"""

import faulthandler
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = "LIFECYCLE_HEARTBEATS"  # where ranks leave them; without it nobody watches, and a beat costs one comparison
LONGEST_LOOK = 1.0
"""No two looks are taken to lie further apart than this, in seconds: see `Silence`."""
DUMP_SECONDS = 3.0
STOPPED = "T"


class Pulse(NamedTuple):
    """What a rank said last: its process, how often it said something, and the steps that are done."""

    pid: int
    beats: int
    done: int


class Heartbeat:
    """A rank's side: a line in a small file, written over with every step: 2 microseconds.

    It comes from the thread that trains. One of its own would go on beating while that thread waits for ever.
    """

    def __init__(self, folder: Path | None, rank: int) -> None:
        self._file: int | None = None
        self._beats = self._done = 0
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Written by a signal handler in C: it also answers when Python's thread is stuck in a collective.
        self._stacks = (folder / f"{rank}.stacks").open("w")
        faulthandler.register(signal.SIGUSR1, file=self._stacks, all_threads=True)
        self._file = os.open(folder / f"{rank}.beat", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.beat()

    @classmethod
    def of_this_process(cls) -> "Heartbeat":
        """That of the rank this process is, where whoever started it wants to see it."""
        folder = os.environ.get(FOLDER)
        return cls(Path(folder) if folder else None, int(os.environ.get("RANK", "0")))

    def beat(self, done: int | None = None) -> None:
        """Say that this rank gets on, and how many steps are done if that is known."""
        if self._file is None:
            return
        if done is not None:
            self._done = done
        self._beats += 1
        os.pwrite(self._file, f"{os.getpid()} {self._beats} {self._done}\n".encode(), 0)


def pulse(folder: Path, rank: int) -> Pulse | None:
    """What a rank said last; None when it has not said anything yet."""
    try:
        words = (folder / f"{rank}.beat").read_text().split()
        return Pulse(*map(int, words[:3]))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def forget(folder: Path, ranks: Iterable[int]) -> None:
    """Remove what ranks of an earlier attempt said."""
    for rank in ranks:
        (folder / f"{rank}.beat").unlink(missing_ok=True)


class Silence:
    """For how many seconds files have not changed, on a clock that stands still while nobody looks.

    A machine that was suspended, or too busy to run the one who looks, has silenced nobody.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._looked = time.monotonic()
        self._seen = {file: _content(file) for file in files}
        self._silent = dict.fromkeys(files, 0.0)
        self.heard: set[Path] = set()
        """Which have changed since the first look: what lay there before says nothing of who lives now."""

    def look(self) -> dict[Path, float]:
        """The seconds of each file."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LONGEST_LOOK), now
        for file, seen in self._seen.items():
            if (content := _content(file)) != seen:
                self._seen[file], self._silent[file] = content, 0.0
                self.heard.add(file)
            else:
                self._silent[file] += passed
        return dict(self._silent)


def stacks(folder: Path, ranks: Iterable[int], mark: bytes) -> str:
    """What each rank is doing: the state of its process, how far it got, and the stacks of all its threads.

    Stopped ones come last and are continued, because a stopped process answers no signal. Whoever asks ends them all
    next, so that they cannot get far. Only a process with `mark` in its command line is signalled: the number in a file
    may be somebody else's by now, or -1.
    """
    pulses = {rank: pulse(folder, rank) for rank in ranks}
    states = {rank: process_state(last.pid) if last else "" for rank, last in pulses.items()}
    told = []
    for rank in sorted(pulses, key=lambda rank: (states[rank] == STOPPED, rank)):
        last = pulses[rank]
        if last is None:
            told.append(f"rank {rank}: no sign of life since it was started\n")
            continue
        state = states[rank] or "gone"
        told.append(f"rank {rank}: process {last.pid}, state {state}, {last.done} steps done\n")
        if states[rank] and mark in command_line(last.pid):
            told.append(_dump(folder / f"{rank}.stacks", last.pid, stopped=states[rank] == STOPPED))
    return "".join(told)


def _dump(file: Path, pid: int, *, stopped: bool) -> str:
    """Ask a process for its stacks and read them once they have stopped growing."""
    before = file.stat().st_size if file.exists() else 0
    try:
        os.kill(pid, signal.SIGUSR1)
        if stopped:
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return ""
    size, deadline = before, time.monotonic() + DUMP_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.1)
        grown = file.stat().st_size if file.exists() else 0
        if grown == size > before:
            break
        size = grown
    return file.read_text(errors="replace")[before:] if file.exists() else ""


def process_state(pid: int) -> str:
    """One letter as in `ps` (R, S, D, T, ...); empty when the process is gone, `?` where there is no /proc."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "" if Path("/proc/self").exists() else "?"
    return "" if letter in "ZX" else letter


def command_line(pid: int) -> bytes:
    """What a process was started with; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
