"""One node: a worker that hangs or dies is found, and started again only where that gives hope. Real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from steps import alive, environment, findings, moments, starts, worker

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

HANG_SECONDS = 2.0


def node(tmp_path: Path, body: str, **resources: Any) -> "subprocess.Popen[bytes]":
    """Node 0 of a job of one plain process that takes ten steps."""
    (tmp_path / "call").mkdir()
    (tmp_path / "job").mkdir()
    call = {
        "worker": worker(tmp_path, body),
        "folder": str(tmp_path / "job"),
        "ranks": None,
        "nodes": 1,
        "hang_timeout_seconds": HANG_SECONDS,
        "start_timeout_seconds": 60.0,
        "max_restarts": 3,
        **resources,
    }
    (tmp_path / "call" / "call.json").write_text(json.dumps(call))
    command = [sys.executable, "-m", "lifecycle.workers.node", str(os.getpid()), str(tmp_path / "call"), "0"]
    return subprocess.Popen(command, env=environment(tmp_path))


def ended(tmp_path: Path, process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    process.wait(timeout=60)
    said = json.loads((tmp_path / "call" / "ended.json").read_text())
    return said["code"], said["reason"]


@pytest.mark.parametrize(("plant", "state"), [("while True: pass", "R"), ("os.kill(os.getpid(), signal.SIGSTOP)", "T")])
def test_a_worker_that_stands_still_is_found_shown_and_started_again(tmp_path, plant, state):
    body = f"if attempt == 1 and step == 5:\n    {plant}"
    assert ended(tmp_path, node(tmp_path, body)) == (0, "")
    assert len(starts(tmp_path / "job")) == 2
    [row] = findings(tmp_path / "job")
    assert (row["step"], row["rule"], row["action"]) == (4, "hang", "restart")
    log = (tmp_path / "job" / "worker.log").read_text()
    assert f"state {state}, 4 steps done" in log
    line = (tmp_path / "steps_worker.py").read_text().splitlines().index(f"        {plant}") + 1
    assert f'steps_worker.py", line {line} in <module>' in log


def test_one_that_dies_is_started_again_while_it_gets_further(tmp_path):
    body = "if step == 3 * attempt:\n    os.kill(os.getpid(), signal.SIGKILL)"
    assert ended(tmp_path, node(tmp_path, body)) == (0, "")
    assert [(row["step"], row["rule"]) for row in findings(tmp_path / "job")] == [(2, "died"), (5, "died"), (8, "died")]


def test_one_that_dies_twice_in_the_same_step_would_die_again(tmp_path):
    code, reason = ended(tmp_path, node(tmp_path, "if step == 3:\n    sys.exit(7)"))
    assert code == 7
    assert "exit code 7. Not started again: it got no further than before" in reason
    assert len(starts(tmp_path / "job")) == 2


def test_one_that_dies_before_its_first_step_is_not_started_again(tmp_path):
    code, reason = ended(tmp_path, node(tmp_path, "sys.exit(7)"))
    assert (code, len(starts(tmp_path / "job")), findings(tmp_path / "job")) == (7, 1, [])
    assert "it would fail again" in reason


def test_restarts_are_bounded(tmp_path):
    body = "if step == 1 + attempt:\n    sys.exit(7)"
    code, reason = ended(tmp_path, node(tmp_path, body, max_restarts=2))
    assert (code, len(starts(tmp_path / "job"))) == (7, 3)
    assert "that was attempt 3, and max_restarts is 2" in reason


def test_what_it_reports_itself_is_not_tried_again(tmp_path):
    body = "if step == 3:\n    (folder / 'error.json').write_text('{}')\n    sys.exit(1)"
    assert ended(tmp_path, node(tmp_path, body))[0] == 1
    assert len(starts(tmp_path / "job")) == 1


def test_told_to_stop_it_passes_that_on_and_ends_with_85(tmp_path):
    process = node(tmp_path, "time.sleep(30 if step == 3 else 0)")
    for _ in moments():
        if starts(tmp_path / "job"):
            break
    process.send_signal(signal.SIGTERM)
    assert ended(tmp_path, process)[0] == 85


def test_a_worker_whose_node_is_killed_is_dead_within_two_seconds(tmp_path):
    process = node(tmp_path, "time.sleep(60)")
    for _ in moments():
        if started := starts(tmp_path / "job"):
            break
    process.kill()
    process.wait()
    time.sleep(0.2)
    for _ in moments(2):
        if not alive(started[0]):
            break
    assert not alive(started[0])
