import threading

import pytest
from spread_work import divided, doubled, doubled_after_a_while, refused_from_two

from lifecycle import progress
from lifecycle.engines import Threads
from lifecycle.errors import InputError
from lifecycle.spread import Here, spread, spreading_over


def test_without_an_engine_tasks_run_here_in_their_order():
    seen = []
    assert spread(seen.append, ["a", "b"], unit="shards") == [None, None]
    assert seen == ["a", "b"]


@pytest.mark.parametrize("threads", [1, 2, 4, 9])
def test_results_come_in_the_order_of_tasks_whoever_ends_first(threads):
    with spreading_over(Threads(threads)):
        assert spread(doubled_after_a_while, range(5), unit="shards") == [0, 2, 4, 6, 8]
        assert spread(doubled, [], unit="shards") == []


def test_progress_counts_tasks_done():
    reports = []
    with progress.listening(reports.append), spreading_over(Threads(2)):
        spread(doubled, [1, 2, 3], unit="shards", note="reading")
    assert [(at.done, at.total, at.unit, at.note) for at in reports] == [
        (done, 3, "shards", "reading") for done in (1, 2, 3)
    ]


def test_the_error_of_the_first_task_is_raised_on_every_engine():
    """With five at a time task 4 fails first, and task 2 is the one to be named."""
    for engine in (Here(), Threads(1), Threads(2), Threads(5)):
        with spreading_over(engine), pytest.raises(InputError) as caught:
            spread(refused_from_two, range(5), unit="shards")
        assert str(caught.value) == "shards 3 of 5: expected less than 2, found 2. Ask for less."


def test_an_error_that_is_not_ours_keeps_its_class_and_gets_a_note():
    with pytest.raises(ZeroDivisionError) as caught:
        spread(divided, [0], unit="shards", name=lambda number: f"wiki/{number}")
    assert caught.value.__notes__ == ["in the task 'shards wiki/0'"]


def test_no_task_starts_after_an_error():
    started = []

    def fail(number: int) -> None:
        started.append(number)
        raise InputError(f"found {number}")

    with spreading_over(Threads(2)), pytest.raises(InputError, match="1 of 100: found 0"):
        spread(fail, range(100), unit="shards")
    assert set(started) <= {0, 1}


def test_no_more_tasks_run_than_the_engine_says():
    lock, running, most = threading.Lock(), 0, 0

    def work(_number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1

    with spreading_over(Threads(3)):
        spread(work, range(12), unit="shards")
    assert most == 3


def test_what_a_task_spreads_in_turn_runs_where_the_task_runs():
    with spreading_over(Threads(1)):
        assert spread(lambda n: spread(doubled, range(n), unit="parts"), [2, 3], unit="shards") == [[0, 2], [0, 2, 4]]


def test_an_engine_that_gets_no_task_is_not_started():
    class Dear(Threads):
        def open(self) -> int:
            raise AssertionError("started")

    with spreading_over(Dear(1)):
        assert spread(doubled, [], unit="shards") == []
