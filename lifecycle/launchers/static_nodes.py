"""Jobs over a fixed set of machines that share a file system, each with an agent (`python -m lifecycle join`).

The flow posts a call on a board, a folder in the shared store; agents find it there. The agents own the ranks, so a
job outlives the flow that posted it, and the same command attaches to it. Nothing but small files is needed between
flow and agents: no port is open while no job runs, and no secret leaves a machine.

Hosts are not listed anywhere: which machine is node 1 says the agent that was started there with `--node-rank 1`.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from lifecycle.launchers import admission
from lifecycle.launchers.local import ended, tail
from lifecycle.launchers.shape import Call, Handle, Resources, Status

LOST_SECONDS = 60.0
"""Node 0 says something every second; a shared file system may show it late."""
FIRST_SIGN_SECONDS = 600.0
POLL_SECONDS = 0.2


class StaticNodes:
    """A launcher (see `shape.Launcher`) on a board that all agents watch."""

    def __init__(self, board: Path) -> None:
        self.board = board
        self._heard: dict[str, tuple[bytes, float]] = {}

    def submit(self, worker: str, folder: Path, key: str, resources: Resources) -> Handle:
        """Post a call, whole from its first moment."""
        if there := self.reattach(key):
            return there
        call = Call(
            worker=worker,
            folder=str(folder.absolute()),
            key=key,
            run=admission.run(),
            posted=time.time(),
            **resources.model_dump(),
        )
        name = f"{key}.{uuid4().hex[:8]}"
        unfinished = self.board / f".{name}"
        unfinished.mkdir(parents=True)
        (unfinished / "call.json").write_text(call.model_dump_json())
        unfinished.rename(self.board / name)
        return Handle(key=key, id=name)

    def status(self, handle: Handle) -> Status:
        """What node 0 said last. It is lost when it is silent for a minute, on the clock of this process."""
        call = self.board / handle.id
        if (call / "ended.json").exists():
            return ended(call, 1)
        if not (call / "call.json").exists():
            return Status(state="lost", reason=f"its call was removed from {self.board}")
        word, silent = self._silence(call)
        if word is None or silent > LOST_SECONDS:
            who = "no agent of node 0 was" if word is None else f"node 0 ({word['host']}) was not"
            if silent > (FIRST_SIGN_SECONDS if word is None else LOST_SECONDS):
                heard = f"expected word of node 0 every second, found that {who} heard of for {silent:.0f} s"
                return Status(state="lost", reason=f"{heard}. {_start(0)}")
            return Status(state="waiting", reason=f"node 0: {_start(0)}")
        if waits_for := word.get("waits_for"):
            return Status(state="waiting", reason=waits_for)
        if missing := word.get("waiting_for"):
            return Status(state="waiting", reason=f"nodes {', '.join(map(str, missing))}: {_start(missing[0])}")
        return Status(state="running")

    def logs(self, handle: Handle, *, last: int) -> list[str]:
        """The last lines of node 0, and of every other node by number."""
        call = self.board / handle.id
        lines = tail(Path(Call.model_validate_json((call / "call.json").read_bytes()).folder) / "worker.log", last)
        for file in sorted(call.glob("worker-*.log")):
            lines += [f"node {file.stem.removeprefix('worker-')}: {line}" for line in tail(file, last)]
        return lines

    def cancel(self, handle: Handle, *, grace_seconds: float) -> None:
        """Ask every node to stop, wait, and take the call off the board: who still works on it kills its ranks."""
        call = self.board / handle.id
        if self.status(handle).state in ("waiting", "running"):
            (call / "stop").touch()
            deadline = time.monotonic() + grace_seconds
            while self.status(handle).state in ("waiting", "running") and time.monotonic() < deadline:
                if self._silence(call)[0] is None:
                    break  # nobody has taken it up
                time.sleep(POLL_SECONDS)
        (call / "call.json").unlink(missing_ok=True)
        shutil.rmtree(call, ignore_errors=True)

    def reattach(self, key: str) -> Handle | None:
        """The open call of this key; calls that ended with nobody there to read it are removed."""
        for call in sorted(self.board.glob(f"{key}.*")):
            if (call / "call.json").exists() and not (call / "ended.json").exists():
                return Handle(key=key, id=call.name)
            shutil.rmtree(call, ignore_errors=True)
        return None

    def _silence(self, call: Path) -> tuple[dict[str, Any] | None, float]:
        """What node 0 said last, and for how long we have seen nothing new."""
        try:
            content = (call / "node-0.json").read_bytes()
        except OSError:
            content = b""
        now = time.monotonic()
        seen, since = self._heard.setdefault(call.name, (content, now))
        if content != seen:
            self._heard[call.name] = content, (since := now)
        return (json.loads(content) if content else None), now - since


def open_calls(board: Path, node: int) -> list[Path]:
    """Calls that want this node and have not ended, in the order they were posted."""
    found = []
    for file in board.glob("[!.]*/call.json"):
        try:
            call = Call.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):  # taken off the board meanwhile; or no call: whoever waits says so
            continue
        if node < call.nodes and not (file.parent / "ended.json").exists():
            found.append((call.posted, file.parent))
    return [folder for _, folder in sorted(found)]


def _start(node: int) -> str:
    return f"start there: python -m lifecycle join --node-rank {node}"
