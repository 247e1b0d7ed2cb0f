"""A schedule starts a run, a slow one does not pile up, and what was missed is made up for once: on real servers."""

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # 155 s on two busy cores: one chain of a few steps, and the server down once

RECIPE = f"{Path(__file__).with_name('micro.py')}:micro"
# So few steps that starting the processes is most of it, and none that another test of this folder waits for.
FEW_STEPS = ["pretrain.horizon.steps=12", "pretrain.ranks=1", "sft.epochs=0.2", "sft.ranks=1", "preference.epochs=0.25"]
EXPECTED = [
    {"stage": "suites", "number": "items", "at_least": 64, "at_most": 64},
    {"stage": "corpus", "number": "kept_share", "at_least": 0.7, "at_most": 0.9},
    {"stage": "pretrain", "number": "epochs", "at_least": 0.01, "at_most": 0.1},
    {"stage": "evaluate", "number": "contaminated_share", "at_least": 0, "at_most": 0},
]
GREEN = [*FEW_STEPS, f"expected={json.dumps(EXPECTED)}"]
RED = [f"expected={json.dumps([{**EXPECTED[0], 'at_least': 65, 'at_most': 65}])}"]  # ends after its first stage


class Canary:
    """The shipped canary, to which schedules are added that ask for the micro recipe."""

    def __init__(self, house) -> None:
        self.house = house
        self.id = house.api("GET", "/deployments/name/full-lifecycle/canary")["id"]
        self.schedules: list[str] = []

    def every(self, seconds: int, settings: list[str], count: str = "") -> str:
        """A schedule whose first run is due in five seconds; its id. The server plans it within a minute."""
        begin = datetime.now(UTC) + timedelta(seconds=5)
        rule = f"DTSTART:{begin:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY;INTERVAL={seconds}{count}"
        asked = {"request": {"recipe": RECIPE, "settings": settings, "canary": True}}
        wanted = {"active": True, "schedule": {"rrule": rule, "timezone": "UTC"}, "parameters": asked}
        (made,) = self.house.api("POST", f"/deployments/{self.id}/schedules", items=[wanted])
        self.schedules.append(made["id"])
        return str(made["id"])

    def remove(self, schedule: str) -> None:
        """No more runs of it; what is planned goes with it."""
        self.schedules.remove(schedule)
        self.house.api("DELETE", f"/deployments/{self.id}/schedules/{schedule}")

    def runs(self, schedule: str, *states: str) -> list[dict]:
        """What a schedule planned or started and is in one of these states, the first due first."""
        of_canary = {"deployments": {"id": {"any_": [self.id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found = self.house.runs(flow_runs={"state": {"type": {"any_": list(states)}}}, **of_canary)
        return [run for run in found if (run["created_by"] or {}).get("id") == schedule]


@pytest.fixture(scope="module")
def canary(house):
    canary = Canary(house)
    limit = house.api("GET", f"/deployments/{canary.id}")["global_concurrency_limit"]["id"]
    # Of a run that another test killed before it began: its lease runs out after five minutes.
    house.wait_for(lambda: not house.api("GET", f"/v2/concurrency_limits/{limit}")["active_slots"], 330, every=2)
    yield canary
    for schedule in list(canary.schedules):
        canary.remove(schedule)


def told(run: dict) -> str:
    return f"{run['state_name']}: {run['state']['message']}"


def test_a_schedule_starts_a_run_and_those_due_while_it_is_at_work_are_dropped(house, canary):
    house.a_worker()
    schedule = canary.every(8, GREEN)
    dropped = house.wait_for(lambda: canary.runs(schedule, "CANCELLED"), 120)
    canary.remove(schedule)
    (begun,) = canary.runs(schedule, "RUNNING", "PENDING")
    assert begun["auto_scheduled"]
    assert {told(run) for run in dropped} == {"Cancelled: Deployment concurrency limit reached."}

    (ended,) = house.wait_for(lambda: canary.runs(schedule, "COMPLETED", "FAILED", "CRASHED"), 400)
    assert (ended["id"], ended["state_name"]) == (begun["id"], "Released"), told(ended)
    shown = house.api("POST", "/artifacts/filter", artifacts={"flow_run_id": {"any_": [ended["id"]]}}, limit=200)
    held = {artifact["key"] for artifact in shown if (artifact["key"] or "").startswith("canary-")}
    assert held == {f"canary-{expected['stage']}" for expected in EXPECTED}, "a green canary shows what it held"


def test_of_the_runs_missed_while_the_server_was_down_one_is_made_up_for(house, canary):
    house.stop_workers()
    schedule = canary.every(1, RED, ";COUNT=3")
    house.api("POST", f"/deployments/{canary.id}/schedule")  # now, before any is due
    planned = canary.runs(schedule, "SCHEDULED")
    assert len(planned) == 3
    last = datetime.fromisoformat(planned[-1]["expected_start_time"])
    os.kill(int((house.home / "servers/prefect.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 1)
    house.servers("start")
    # The server calls each of them late, and one that it calls late while another has the slot it lets go itself.
    house.wait_for(lambda: [run["state_name"] for run in canary.runs(schedule, "SCHEDULED")] == ["Late"] * 3, 90)

    house.start_worker(limit=1)  # one that takes one at a time meets no limit: it would do them all in turn
    house.wait_for(lambda: not canary.runs(schedule, "SCHEDULED", "PENDING", "RUNNING"), 120)
    (made_up,) = canary.runs(schedule, "COMPLETED", "FAILED", "CRASHED")
    assert "CanaryRed: canary red: suites items: expected 65 to 65, found 64." in told(made_up)
    gone = canary.runs(schedule, "CANCELLED")
    assert [told(run) for run in gone] == [f"Missed: {planned[0]['name']} makes up for it"] * 2
