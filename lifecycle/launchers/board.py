"""The calls of jobs whose processes a scheduler owns: what its nodes read, and whether node 0 is still heard of.

A scheduler knows its own daemons; that a supervisor was killed under them it may not notice. So node 0 says something
every second, as nodes do for each other, and here somebody listens.
"""

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from lifecycle.launchers import admission
from lifecycle.launchers.local import tail
from lifecycle.launchers.shape import Call, Resources

HEARD_FROM_AFAR = {"LIFECYCLE_SAY_EVERY_SECOND": "1"}
LOST_SECONDS = 60.0
"""A shared file system may show a word some seconds late."""
FIRST_SIGN_SECONDS = 600.0
"""From the moment the scheduler says that it runs: prologues, and images that are pulled."""
YOUNG_SECONDS = 600.0


class Board:
    """A folder of the store, one folder a call in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._heard: dict[str, tuple[bytes, float]] = {}

    def post(self, worker: str, folder: Path, key: str, resources: Resources) -> tuple[Call, Path]:
        """A new call and its folder. What nobody read of earlier ones is removed, unless it is very young."""
        for old in self.folder.glob(f"{key}.*"):
            if time.time() - old.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        # Who has which accelerator is the scheduler's affair: two of its jobs may both call theirs 0.
        asked = resources.model_copy(update={"accelerators": 0}).model_dump()
        call = Call(
            worker=worker, folder=str(folder.absolute()), key=key, run=admission.run(), posted=time.time(), **asked
        )
        home = self.folder / f"{key}.{uuid4().hex[:8]}"
        home.mkdir(parents=True)
        (home / "call.json").write_text(call.model_dump_json())
        return call, home

    def has(self, name: str) -> bool:
        """Whether there is a call in a folder of this name."""
        return (self.folder / Path(name).name / "call.json").exists()

    def logs(self, home: Path, last: int) -> list[str]:
        """The last lines of the job, and of its other nodes by number."""
        lines = list[str]()
        with contextlib.suppress(OSError, ValueError):
            call = Call.model_validate_json((home / "call.json").read_bytes())
            lines += tail(Path(call.folder) / "worker.log", last)
        for file in sorted(home.glob("worker-*.log")):
            lines += [f"node {file.stem.removeprefix('worker-')}: {line}" for line in tail(file, last)]
        return lines

    def waits_for(self, home: Path) -> str:
        """What a job that runs is waiting for, as its node 0 says; empty where it waits for nothing."""
        word = _word(home)
        missing = word.get("waiting_for")
        return str(word.get("waits_for") or (f"nodes {', '.join(map(str, missing))}" if missing else ""))

    def lost(self, home: Path, *, runs: bool) -> str:
        """Why a job that is said to run is lost: node 0 is not heard of. The clock is this process's own."""
        now = time.monotonic()
        try:
            content = (home / "node-0.json").read_bytes()
        except OSError:
            content = b""
        seen, since = self._heard.get(home.name, (content, now))
        if content != seen or not runs:
            since = now
        self._heard[home.name] = content, since
        if now - since <= (LOST_SECONDS if content else FIRST_SIGN_SECONDS):
            return ""
        return f"expected word of node 0 every second, found none for {now - since:.0f} s: its supervisor was killed"


def _word(home: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((home / "node-0.json").read_bytes()))
    return {}
