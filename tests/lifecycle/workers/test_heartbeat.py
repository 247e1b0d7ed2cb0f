"""Signs of life: what silence means, and what it must not be taken for."""

import re
import subprocess
import sys

import pytest

from lifecycle.workers import heartbeat
from lifecycle.workers.heartbeat import Heartbeat, Pulse, Silence, pulse


def test_a_beat_names_process_and_step_and_every_one_differs(tmp_path):
    rank = Heartbeat(tmp_path, 3)
    rank.beat(7)
    first = pulse(tmp_path, 3)
    rank.beat()
    second = pulse(tmp_path, 3)
    assert isinstance(first, Pulse)
    assert isinstance(second, Pulse)
    assert (first.done, second.done, second.beats - first.beats) == (7, 7, 1)
    assert pulse(tmp_path, 4) is None


def test_nobody_asked_for_it_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(heartbeat.FOLDER, raising=False)
    Heartbeat.of_this_process().beat(1)
    assert list(tmp_path.iterdir()) == []


def test_silence_grows_until_something_is_heard(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    file = tmp_path / "0.beat"
    silence = Silence([file])
    for _ in range(3):
        now[0] += 0.5
        silence.look()
    assert silence.look() == {file: 1.5}
    assert silence.heard == set()
    file.write_text("here")
    assert silence.look() == {file: 0.0}
    assert silence.heard == {file}


def test_a_machine_that_slept_has_silenced_nobody(tmp_path, monkeypatch):
    """A suspended laptop, a paused container: the ranks stood still because nobody at all could move."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    silence = Silence([tmp_path / "0.beat"])
    now[0] += 8 * 3600
    assert list(silence.look().values()) == [heartbeat.LONGEST_LOOK]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_only_a_process_of_the_job_is_asked_for_its_stacks(tmp_path):
    """Its number may belong to somebody else by now, whom SIGUSR1 would end; -1 would be everybody."""
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        for rank, pid in enumerate((other.pid, -1, 0)):
            (tmp_path / f"{rank}.beat").write_text(f"{pid} 1 1")
        told = heartbeat.stacks(tmp_path, range(3), b"/the/folder/of/the/job")
        assert other.poll() is None
        other.kill()
    # Nothing but its state is told, whatever that is while it starts.
    first, *others = told.splitlines()
    assert re.fullmatch(rf"rank 0: process {other.pid}, state [A-Z], 1 steps done", first)
    assert len(others) == 2
