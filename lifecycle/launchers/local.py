"""Jobs on this machine, as children of the process that submits them: they die with it, within 2 s (P6)."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lifecycle.errors import WorkerFailed
from lifecycle.launchers import admission
from lifecycle.launchers.environment import worker_environment
from lifecycle.launchers.shape import Call, Handle, Resources, Status

NODE = "lifecycle.workers.node"
DEATH_SECONDS = 5.0
"""What is left of a killed flow is gone by then (P6)."""


class Local:
    """A launcher (see `shape.Launcher`). `home` is where it keeps its calls: the job's scratch folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, worker: str, folder: Path, key: str, resources: Resources) -> Handle:
        """Start the job's node in a session of its own: Ctrl-C at a terminal reaches this process alone."""
        home = self.home / key
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        call = Call(
            worker=worker,
            folder=str(folder),
            key=key,
            run=admission.run(),
            posted=time.time(),
            **resources.model_dump(),
        )
        (home / "call.json").write_text(call.model_dump_json())
        with (folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", NODE, str(os.getpid()), str(home), "0"],
                env=worker_environment(resources.threads),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[str(home)] = process
        return Handle(key=key, id=str(home))

    def status(self, handle: Handle) -> Status:
        """The state of a child of this process; another one's is lost with its parent."""
        if handle.id not in self._running:
            return Status(state="lost", reason="its parent is gone, and it with it")
        code = self._running[handle.id].poll()
        if code is not None:
            return ended(Path(handle.id), code)
        waits_for = _word(Path(handle.id)).get("waits_for")
        return Status(state="waiting", reason=waits_for) if waits_for else Status(state="running")

    def logs(self, handle: Handle, *, last: int) -> list[str]:
        """The last lines of worker.log."""
        call = Call.model_validate_json((Path(handle.id) / "call.json").read_bytes())
        return tail(Path(call.folder) / "worker.log", last)

    def cancel(self, handle: Handle, *, grace_seconds: float) -> None:
        """SIGTERM to every rank, by way of the node; after the grace SIGKILL to the node, and its ranks die with it."""
        process = self._running.pop(handle.id, None)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def reattach(self, key: str) -> Handle | None:
        """None: a job dies with its flow. One that is just dying is waited for, so that two never write at once."""
        home = self.home / key
        word = _word(home)
        deadline = time.monotonic() + DEATH_SECONDS
        while word and _is_alive(word["pid"], home):
            if time.monotonic() > deadline:
                raise WorkerFailed(
                    f"expected to be the only one at work on {key}, found process {word['pid']} of another flow on it. "
                    "Wait for that flow, or end it."
                )
            time.sleep(0.05)
        return None


def _word(call: Path) -> dict[str, Any]:
    """What the job's node said last; nothing when it said nothing yet."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((call / "node-0.json").read_bytes()))
    return {}


def ended(call: Path, code: int) -> Status:
    """How the job of a call ended; its node may have died before it could say so."""
    try:
        said = json.loads((call / "ended.json").read_bytes())
    except (OSError, ValueError):
        said = {"code": code, "reason": ""}
    return Status(state="ended", exit_code=said["code"], reason=said["reason"])


def tail(log: Path, last: int) -> list[str]:
    """The last lines of a log; none when there is no log."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-last:]
    except OSError:
        return []


def _is_alive(pid: int, home: Path) -> bool:
    """Whether a process is still the node of this call: its number may be somebody else's by now."""
    try:
        return str(home).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
