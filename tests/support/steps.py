"""A worker that takes steps of nothing, without torch: what is tested around workers does not need one that learns."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORKER = """
import os, signal, sys, time
from pathlib import Path
from lifecycle.workers.heartbeat import Heartbeat

folder = Path(sys.argv[1])
mine = Path(os.environ.get("LIFECYCLE_HEARTBEATS", "alone")).name  # tells the nodes apart
tries = folder / f"tries-{mine}"
tries.write_text(tries.read_text() + f"{os.getpid()} " if tries.exists() else f"{os.getpid()} ")
attempt = len(tries.read_text().split())
beat = Heartbeat.of_this_process().beat
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))

for step in range(1, 11):
    time.sleep(0.05)
    if told:
        sys.exit(85)
    BODY
    beat(step)
(folder / "result.json").write_text("{}")
"""


def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `python -m steps_worker` is found."""
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}


def worker(tmp_path: Path, body: str) -> str:
    """The name of a worker of ten steps that does `body` in each; `step` and `attempt` are its numbers, from 1."""
    (tmp_path / "steps_worker.py").write_text(WORKER.replace("BODY", body.replace("\n", "\n    ")))
    return "steps_worker"


def starts(folder: Path, node: int = 0) -> list[int]:
    """The process of every start of the worker on a node."""
    file = folder / f"tries-ranks-{node}"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def findings(folder: Path) -> list[dict[str, Any]]:
    file = folder / "findings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def alive(pid: int) -> bool:
    """Running, and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def moments(seconds: float = 60) -> Iterator[None]:
    """Go round until it breaks; fails when it has not for too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise AssertionError(f"waited in vain, with {sys.argv}")
