"""One training job per accelerator: a claim on devices of this machine that needs no server.

Each device has a file in a folder that all jobs of the machine share; whoever holds its lock has the device. The kernel
frees a lock when its holder dies, however it dies, so nothing is cleaned up after a kill -9. Prefect's limits know only
runs of their own server (`tasks.accelerators`); this holds for every job, and on a laptop without one.

Only the standard library: see `workers.node`.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

OURS = "LIFECYCLE_ACCELERATORS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = "LIFECYCLE_ACCELERATOR_LOCKS"
DEFAULT_LOCKS = "/tmp/lifecycle-accelerators"  # not TMPDIR, which may be each user's own
DRIVER = Path("/proc/driver/nvidia/gpus")
CPU = ("cpu",)


class TooFew(Exception):
    """This machine has fewer accelerators than a job asks for; the message says what to do."""


class Claim:
    """`count` devices of this machine that no other job has, from a `take` that says yes until this process ends.

    All are taken or none: jobs that each held half of what they need would wait for each other for ever. Who waits
    stands in a queue for the same devices, so that a job for all eight is not passed over by small ones.
    """

    def __init__(self, count: int, *, holder: Mapping[str, Any]) -> None:
        """`holder` is what others are told about this job. Raises TooFew."""
        self.names = names_here()
        self.count = min(count, len(self.names)) if self.names == CPU else count if self.names else 0
        if self.count > len(self.names):
            raise TooFew(
                f"expected {count} accelerators on this machine, one a rank, found {len(self.names)} "
                f"({', '.join(self.names)}). Lower the stage's ranks, or see {OURS} and {VISIBLE} in docs/launching.md."
            )
        self.taken: dict[str, int] = {}
        """The devices that are ours, and the open files that hold their locks."""
        self._holder = dict(holder)
        self._folder = _shared_folder(Path(os.environ.get(LOCKS) or DEFAULT_LOCKS)) if self.count else -1
        self._place: int | None = None

    def take(self) -> bool:
        """Take the devices if as many as are needed are free, and it is our turn; never waits."""
        if self.count and not self.taken:
            if self._place is None:
                self._place = self._lock(f"queue-{sha256(repr(self.names).encode()).hexdigest()[:16]}")
            if self._place is not None:
                self._take_all()
        return len(self.taken) == self.count

    def environment(self) -> dict[str, str]:
        """What makes ranks use these devices and no other; nothing on a machine without accelerators."""
        return {} if self.names in ((), CPU) or not self.count else {VISIBLE: ",".join(self.taken)}

    def holders(self) -> str:
        """Who has the devices that are not free, and since when."""
        said = []
        for name in self.names:
            lock = self._lock(name)
            if lock is not None:
                os.close(lock)
            elif who := self._read(name):
                since = time.strftime("%H:%M:%S", time.localtime(who["since"]))
                said.append(f"{name} by process {who['pid']} ({who['job']}, run {who['run'] or '?'}) since {since}")
            else:
                said.append(f"{name} by a process that does not say its name")
        return "; ".join(said) or "a job that is before this one in the queue"

    def _take_all(self) -> None:
        """In the same order for all, and let go again where there are too few."""
        for name in self.names:
            if len(self.taken) < self.count and (lock := self._lock(name)) is not None:
                self.taken[name] = lock
        if len(self.taken) < self.count:
            while self.taken:
                os.close(self.taken.popitem()[1])
            return
        said = json.dumps({**self._holder, "since": time.time()}).encode()
        for lock in self.taken.values():
            os.ftruncate(lock, 0)
            os.pwrite(lock, said, 0)
        assert self._place is not None
        os.close(self._place)
        self._place = None

    def _lock(self, name: str) -> int | None:
        """The open file of a device, locked; None while somebody else has it."""
        file = self._open(name, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def _read(self, name: str) -> dict[str, Any] | None:
        with os.fdopen(self._open(name, os.O_RDONLY), "rb") as file, contextlib.suppress(ValueError):
            said = json.loads(file.read(4096))
            return dict(said) if {"pid", "job", "run", "since"} <= set(said) else None
        return None

    def _open(self, name: str, mode: int) -> int:
        """Through the folder and never through a link: the folder is open to everybody on this machine."""
        options = mode | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            # Without O_CREAT, which Linux refuses on another user's file in such a folder (fs.protected_regular).
            return os.open(f"{name.replace('/', '-')}.lock", options, dir_fd=self._folder)
        file = os.open(f"{name.replace('/', '-')}.lock", options | os.O_CREAT, 0o666, dir_fd=self._folder)
        with contextlib.suppress(PermissionError):
            os.fchmod(file, 0o666)  # whatever our umask says: jobs of other users wait for it too
        return file


def names_here(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The accelerators that jobs here may use: LIFECYCLE_ACCELERATORS, CUDA_VISIBLE_DEVICES, or all there are.

    A number becomes the UUID of the GPU that has it in nvidia-smi, since two jobs may call one GPU by two names.
    Without any, jobs run on the CPU and nothing is claimed: cores can be shared. `LIFECYCLE_ACCELERATORS=cpu` makes
    jobs of a machine without accelerators wait for each other all the same.
    """
    known = _uuids()
    for variable in (OURS, VISIBLE):
        if variable in environment:
            asked = [name.strip() for name in environment[variable].split(",") if name.strip()]
            return tuple(dict.fromkeys(_full_name(name, known) for name in asked))
    return tuple(known)


def _uuids() -> list[str]:
    """The NVIDIA GPUs in the order of their bus, which is nvidia-smi's."""
    cards = sorted(DRIVER.glob("*/information")) if DRIVER.is_dir() else []
    lines = [line for card in cards for line in card.read_text().splitlines() if line.startswith("GPU UUID:")]
    return [line.split(":", 1)[1].strip() for line in lines]


def _full_name(name: str, known: list[str]) -> str:
    if name.isdecimal() and int(name) < len(known):
        return known[int(name)]
    matching = [uuid for uuid in known if uuid.startswith(name)]
    return matching[0] if len(matching) == 1 else name


def _shared_folder(path: Path) -> int:
    """The folder of the locks, open; made for all users of the machine where it is not there."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(parents=True)
        path.chmod(0o1777)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
