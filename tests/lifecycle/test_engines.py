"""Processes that die, for real: what they had in hand is done again, and none of them outlives us."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import spread_work
from spread_work import killed_always, killed_once, process_of, refused_from_two

from lifecycle.engines import Processes, TryingAgain
from lifecycle.errors import InputError, WorkerFailed, WorkerLost
from lifecycle.spread import spread, spreading_over

INTERRUPTED = """
import signal, sys
from pathlib import Path
from spread_work import slept
from lifecycle.engines import Processes
from lifecycle.spread import spread, spreading_over

def stop(*_):
    raise SystemExit(85)

signal.signal(signal.SIGTERM, stop)
with spreading_over(Processes(2)):
    spread(slept, [(0, Path(sys.argv[1])), (1, Path(sys.argv[1]))], unit="shards")
"""


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tasks_run_in_other_processes_which_are_kept_from_one_spread_to_the_next():
    with spreading_over(Processes(2)):
        first = set(spread(process_of, range(8), unit="shards"))
        second = set(spread(process_of, range(8), unit="shards"))
    assert os.getpid() not in first
    assert first == second
    assert len(first) == 2
    assert not any(map(is_alive, first))


def test_a_worker_has_one_thread_for_each_library():
    with spreading_over(Processes(1)):
        (found,) = spread(spread_work.environment_of, [0], unit="shards")
    assert found["OMP_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == "1"


def test_an_error_of_ours_crosses_the_border_as_it_is_and_is_not_tried_again():
    with spreading_over(TryingAgain(Processes(2))), pytest.raises(InputError) as caught:
        spread(refused_from_two, range(5), unit="shards")
    assert str(caught.value) == "shards 3 of 5: expected less than 2, found 2. Ask for less."


def test_an_error_of_others_says_where_in_the_worker_it_was():
    with spreading_over(Processes(1)), pytest.raises(ZeroDivisionError) as caught:
        spread(spread_work.divided, [0], unit="shards")
    assert "spread_work.py" in caught.value.__notes__[0]
    assert caught.value.__notes__[1] == "in the task 'shards 1 of 1'"


def test_the_task_of_a_killed_worker_is_tried_again_and_no_other(tmp_path):
    with spreading_over(TryingAgain(Processes(2))):
        results = spread(killed_once, [(number, tmp_path) for number in range(6)], unit="shards")
    assert results == [0, 2, 4, 6, 8, 10]
    tries = [len((tmp_path / f"tries-{number}").read_text().splitlines()) for number in range(6)]
    assert tries == [1, 2, 1, 1, 1, 1]


def test_a_task_that_always_kills_its_worker_is_one_clear_error():
    with spreading_over(TryingAgain(Processes(2))), pytest.raises(WorkerLost) as caught:
        spread(killed_always, range(4), unit="shards")
    assert str(caught.value) == (
        "shards 2 of 4: expected a result, found its worker ended by SIGKILL. "
        "That is how the kernel frees memory: use fewer workers.\nTried 3 times."
    )


def test_a_closed_engine_takes_no_task():
    engine = Processes(1)
    with spreading_over(engine):
        spread(process_of, [0], unit="shards")
    with pytest.raises(WorkerFailed, match="found it closed"):
        engine.compute(process_of, 0, name="late")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_flow_that_is_told_to_stop(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    flow = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], env=environment, stderr=subprocess.DEVNULL
    )
    names = [tmp_path / "worker-0", tmp_path / "worker-1"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in names))
    workers = [int(path.read_text()) for path in names]
    assert all(map(is_alive, workers))
    flow.send_signal(number)
    flow.wait(timeout=10)
    wait_until(lambda: not any(map(is_alive, workers)), seconds=2)


def test_work_that_cannot_be_sent_is_refused_by_name():
    with spreading_over(Processes(1)), pytest.raises((AttributeError, TypeError)) as caught:
        spread(partial(lambda number: number), [0], unit="shards")
    assert caught.value.__notes__ == ["in the task 'shards 1 of 1'"]
