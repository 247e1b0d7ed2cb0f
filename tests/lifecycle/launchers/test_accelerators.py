"""One job per device: by locks that the kernel frees, without half-claims, and with a name for whoever waits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from steps import environment, moments, starts, worker

from lifecycle.launchers import accelerators
from lifecycle.launchers.accelerators import LOCKS, OURS, VISIBLE, Claim, TooFew, names_here

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(autouse=True)
def four_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOCKS, str(tmp_path / "locks"))
    monkeypatch.setenv(OURS, "0,1,2,3")
    return tmp_path / "locks"


def claim(count: int, job: str = "sft-1") -> Claim:
    return Claim(count, holder={"pid": os.getpid(), "job": job, "run": "monday"})


def test_two_jobs_get_different_devices_and_a_third_waits_and_says_for_whom():
    first, second, third = claim(2, "sft-1"), claim(1, "sft-2"), claim(2, "sft-3")
    assert (first.take(), second.take(), third.take()) == (True, True, False)
    assert [*first.taken, *second.taken, *third.taken] == ["0", "1", "2"]
    assert first.environment() == {VISIBLE: "0,1"}
    said = third.holders()
    assert f"0 by process {os.getpid()} (sft-1, run monday) since" in said
    assert "2 by process" in said
    assert "sft-2" in said
    assert "3 by" not in said  # it is free: the job waits for two


def test_all_are_taken_or_none_so_that_what_a_waiting_job_could_have_stays_free_for_others_lists():
    first, waiting = claim(3), claim(2)
    assert first.take()
    assert not waiting.take()
    assert waiting.taken == {}


def test_who_came_first_is_served_first_even_if_he_wants_all(monkeypatch):
    small, large, late = claim(1), claim(4), claim(1)
    assert small.take()
    assert not large.take()
    assert not late.take()  # three are free, but a job for all four would wait for ever behind small ones
    assert "before this one in the queue" in claim(1).holders() or "0 by process" in claim(1).holders()


CHILD = """
import os, sys, time
from lifecycle.launchers.accelerators import Claim
claim = Claim(int(sys.argv[1]), holder={"pid": os.getpid(), "job": "child", "run": ""})
while not claim.take():
    time.sleep(0.01)
print(*claim.taken, flush=True)
time.sleep(float(sys.argv[2]))
"""


def child(count: int, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", CHILD, str(count), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_a_killed_holder_frees_its_devices_at_once():
    holder = child(4, 60)
    assert holder.stdout is not None
    assert holder.stdout.readline().split() == ["0", "1", "2", "3"]
    waiting = claim(3)
    assert not waiting.take()
    holder.kill()
    holder.wait()
    assert waiting.take()


def test_many_jobs_of_all_sizes_never_share_a_device_and_all_end():
    """Twelve processes at once; with half-claims, three that want three of four would wait for ever."""
    running = [child(count, 0.05) for count in (3, 1, 3, 2, 4, 3, 1, 2, 4, 3, 2, 1)]
    for process in running:
        assert process.wait(30) == 0


def test_a_machine_with_too_few_says_so_at_once():
    with pytest.raises(TooFew, match=r"expected 5 accelerators on this machine, one a rank, found 4 \(0, 1, 2, 3\)"):
        claim(5)


def test_on_a_cpu_nothing_is_claimed_unless_it_is_asked_for(monkeypatch, four_devices):
    monkeypatch.delenv(OURS)
    monkeypatch.setenv(VISIBLE, "")
    free = claim(2)
    assert free.take()
    assert (free.taken, free.environment(), four_devices.exists()) == ({}, {}, False)

    monkeypatch.setenv(OURS, "cpu")  # its ranks share the machine, and the machine is what is claimed
    first, second = claim(2), claim(1)
    assert (first.take(), second.take()) == (True, False)
    assert first.environment() == {}


def test_one_gpu_has_one_lock_by_whatever_name_it_is_called(monkeypatch, tmp_path):
    driver = tmp_path / "gpus"
    for bus, uuid in (("0000:07:00.0", "GPU-aaaa-1"), ("0000:0f:00.0", "GPU-bbbb-2")):
        (driver / bus).mkdir(parents=True)
        (driver / bus / "information").write_text(f"Model: \t\t H100\nGPU UUID: \t {uuid}\n")
    monkeypatch.setattr(accelerators, "DRIVER", driver)
    assert names_here({}) == ("GPU-aaaa-1", "GPU-bbbb-2")
    assert names_here({VISIBLE: "1"}) == names_here({VISIBLE: "GPU-bbbb"}) == ("GPU-bbbb-2",)
    assert names_here({VISIBLE: "MIG-cccc"}) == ("MIG-cccc",)
    assert names_here({VISIBLE: "1", OURS: "0"}) == ("GPU-aaaa-1",)


def test_a_link_in_the_shared_folder_is_not_followed(four_devices, tmp_path):
    assert claim(1).take()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (four_devices / "1.lock").symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels"):
        claim(2).take()
    assert secret.read_text() == "mine"


def node(tmp_path: Path, name: str, body: str, **resources: object) -> "subprocess.Popen[bytes]":
    """Node 0 of a job of one plain process."""
    for folder in ("call", "job"):
        (tmp_path / name / folder).mkdir(parents=True)
    call = {"worker": worker(tmp_path / name, body), "folder": str(tmp_path / name / "job"), "ranks": None, "nodes": 1}
    call |= {"key": name, "run": "monday", "accelerators": 1, "max_restarts": 0}
    call |= {"hang_timeout_seconds": 60.0, "start_timeout_seconds": 60.0, **resources}
    (tmp_path / name / "call" / "call.json").write_text(json.dumps(call))
    command = [sys.executable, "-m", "lifecycle.workers.node", str(os.getpid()), str(tmp_path / name / "call"), "0"]
    return subprocess.Popen(command, env=environment(tmp_path / name))


def word(tmp_path: Path, name: str) -> dict[str, object]:
    file = tmp_path / name / "call" / "node-0.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def until(true: object) -> None:
    for _ in moments(20):
        if true():  # type: ignore[operator]
            return
    raise AssertionError("it did not come to pass")


def test_a_job_waits_for_the_one_that_has_the_device_says_who_it_is_and_goes_on_when_that_is_killed(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(OURS, "7")
    first = node(tmp_path, "first", "time.sleep(60)")
    until(lambda: starts(tmp_path / "first/job"))
    second = node(tmp_path, "second", "(folder / 'saw').write_text(os.environ['CUDA_VISIBLE_DEVICES'])")
    until(lambda: word(tmp_path, "second").get("waits_for"))
    assert f"7 by process {first.pid} (first, run monday) since" in str(word(tmp_path, "second")["waits_for"])
    assert not starts(tmp_path / "second/job")
    first.kill()
    first.wait()
    killed = time.monotonic()
    assert second.wait(30) == 0
    assert time.monotonic() - killed < 10
    assert (tmp_path / "second/job/saw").read_text() == "7"
    assert word(tmp_path, "second")["waits_for"] == ""


def test_a_job_that_waits_for_a_device_can_be_told_to_stop(tmp_path, monkeypatch):
    monkeypatch.setenv(OURS, "7")
    held = claim(1)
    assert held.take()
    process = node(tmp_path, "waiting", "pass")
    until(lambda: word(tmp_path, "waiting").get("waits_for"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 85
    assert not starts(tmp_path / "waiting/job")


def test_a_job_for_more_devices_than_there_are_ends_with_a_reason(tmp_path):
    assert node(tmp_path, "greedy", "pass", accelerators=5).wait(20) == 1
    assert json.loads((tmp_path / "greedy/job/error.json").read_text())["kind"] == "ConfigError"
