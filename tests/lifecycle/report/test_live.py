"""What the display says: worked examples of the time left, and what a person reads."""

import io

import pytest

from lifecycle.progress import Progress
from lifecycle.report.key_numbers import count, duration
from lifecycle.report.live import Display, Estimate, Measured

PLAN = ("data", "train", "gate")
EXPECTED = {"data": 10.0, "train": 100.0, "gate": 10.0}


def test_before_anything_ran_the_run_takes_what_is_expected():
    assert Estimate(PLAN, EXPECTED).run_left(None, Measured()) == 120


def test_a_machine_half_as_fast_as_expected_needs_twice_as_long_for_the_rest():
    estimate = Estimate(PLAN, EXPECTED)
    estimate.took["data"] = 20.0
    assert estimate.run_left("train", Measured()) == pytest.approx(2 * 110)


def test_a_stage_in_progress_is_timed_by_its_own_speed():
    estimate = Estimate(PLAN, EXPECTED)
    at = Measured(elapsed=50, share=0.25, counted_share=0.25, counted_seconds=10)  # of 50 s, 40 s were its start-up
    assert estimate.stage_left("train", at) == pytest.approx(30.0)
    assert estimate.run_left("train", at) == pytest.approx(30 + 20)  # data and gate are still to come


def test_a_stage_that_goes_on_from_a_checkpoint_is_timed_by_what_it_did_since():
    at = Measured(elapsed=10, share=0.75, counted_share=0.25, counted_seconds=10)
    assert Estimate(PLAN, EXPECTED).stage_left("train", at) == pytest.approx(10.0)


def test_a_reused_stage_says_nothing_about_the_speed_of_the_machine():
    estimate = Estimate(PLAN, EXPECTED)
    estimate.took["data"] = 0.0
    estimate.reused.add("data")
    assert estimate.pace == 1.0
    assert estimate.run_left("train", Measured()) == 110


def test_no_time_is_promised_when_a_stage_was_never_timed():
    assert Estimate(PLAN, {"data": 10.0}).run_left("data", Measured(5, 0.5, 0.5, 5)) is None


def test_plain_lines_name_the_stage_its_number_and_what_came_out():
    stream = io.StringIO()
    with Display(PLAN, EXPECTED, stream) as display:
        display.stage_begins("data")
        display.progressed(Progress(1, 10, "files"))
        display.stage_ends("data", reused=False, seconds=12.0, number="9 documents")
        display.stage_begins("train")
        display.stage_ends("train", reused=True, seconds=0.0, number="loss 2.000", notes=["kept although code changed"])
    lines = stream.getvalue().splitlines()
    assert lines == [
        "[1/3] data  made in 12 s: 9 documents",
        "[2/3] train  reused: loss 2.000",
        "train: kept although code changed",
    ]


def test_progress_lines_come_no_faster_than_a_person_reads(monkeypatch):
    stream = io.StringIO()
    display = Display(PLAN, EXPECTED, stream)
    display.stage_begins("train")
    for step in range(100):
        display.progressed(Progress(step, 100, "steps"))
    assert stream.getvalue() == ""
    display._last_line -= 60
    display.progressed(Progress(50, 100, "steps", "loss 2.1"))
    assert "[2/3] train   50% of 100 steps" in stream.getvalue()
    assert "loss 2.1" in stream.getvalue()


def test_a_stage_that_was_not_planned_appears_after_the_current_one():
    display = Display(PLAN, EXPECTED, io.StringIO())
    display.stage_begins("train")
    display.stage_begins("evaluate_live")
    assert display.estimate.plan == ["data", "train", "evaluate_live", "gate"]


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (42, "42 s"), (75, "1:15"), (3700, "1:01:40")])
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def test_counts_are_readable():
    assert (count(1234), count(1_234_567)) == ("1,234", "1.23 M")
