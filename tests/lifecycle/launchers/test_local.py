"""Jobs of this process: stopped politely, then not; and never two on one folder."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from steps import alive, environment, moments, worker

from lifecycle.errors import WorkerFailed
from lifecycle.launchers import local
from lifecycle.launchers.local import Local
from lifecycle.launchers.shape import Handle, Resources, Status

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path)["PYTHONPATH"])
    (tmp_path / "job").mkdir()
    return Local(tmp_path / "scratch")


def started(launcher: Local, tmp_path: Path, body: str) -> tuple[Handle, int]:
    """A job whose worker runs, and the process of that worker."""
    handle = launcher.submit(worker(tmp_path, body), tmp_path / "job", "steps-1", Resources())
    for _ in moments():
        if (tmp_path / "job" / "tries-alone").exists() and (tmp_path / "job" / "tries-alone").read_text():
            break
    return handle, int((tmp_path / "job" / "tries-alone").read_text())


def test_a_job_runs_to_its_end_and_its_log_is_at_hand(launcher, tmp_path):
    handle, _ = started(launcher, tmp_path, "print('step', step, flush=True)")
    for _ in moments():
        if launcher.status(handle).state == "ended":
            break
    assert launcher.status(handle) == Status(state="ended", exit_code=0)
    assert launcher.logs(handle, last=2) == ["step 9", "step 10"]


def test_a_worker_that_is_deaf_is_killed_after_the_grace(launcher, tmp_path):
    handle, pid = started(launcher, tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    time.sleep(0.3)  # until it is deaf
    launcher.cancel(handle, grace_seconds=0.1)
    for _ in moments(2):
        if not alive(pid):
            break
    assert launcher.status(handle).state == "lost"
    launcher.cancel(handle, grace_seconds=0.1)  # of one that has ended: nothing


def test_a_job_of_a_dead_flow_is_dead_and_of_a_live_one_refused(launcher, tmp_path, monkeypatch):
    assert launcher.reattach("steps-1") is None
    handle, _ = started(launcher, tmp_path, "time.sleep(60)")
    monkeypatch.setattr(local, "DEATH_SECONDS", 0.2)
    with pytest.raises(WorkerFailed, match=r"the only one at work on steps-1, found process \d+ of another flow"):
        Local(tmp_path / "scratch").reattach("steps-1")
    launcher.cancel(handle, grace_seconds=0)
    assert Local(tmp_path / "scratch").reattach("steps-1") is None


def test_a_process_number_that_is_somebody_elses_now_is_no_job(launcher, tmp_path):
    call = tmp_path / "scratch" / "steps-1"
    call.mkdir(parents=True)
    (call / "node-0.json").write_text(json.dumps({"pid": os.getpid()}))
    assert launcher.reattach("steps-1") is None
