"""Whoever stops a run gets his machine back in seconds, and the next one goes on from a checkpoint saved then."""

import json
import signal
import time

import pytest

pytestmark = pytest.mark.slow

RANKS_SECONDS = 5.0
STEPS = ("pretrain.horizon.steps=300", "pretrain.log_every_steps=1")


def seconds_until_no_rank_lives(house, since: float) -> float:
    house.wait_for(lambda: not house.ranks(), 30, every=0.05)
    return time.monotonic() - since


def newest_step(house) -> int:
    return max(int(path.rsplit("-", 1)[1]) for path, _ in house.checkpoints())


def steps_trained(house) -> list[int]:
    """Every step in the record, in its order."""
    # Other tests of this house may have trained: the newest is this one's.
    file = max(house.store.glob("artifacts/pretrain/*/log/metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row["step"] for row in rows if "loss" in row]


def test_a_run_that_is_cancelled_or_whose_worker_is_told_to_stop_or_killed_saves_and_the_next_goes_on(
    house, record_property
):
    """By what the Cancel button sends, SIGTERM as a pool sends it, and SIGKILL, one after the other on one training."""
    house.stop_workers()
    stops = {}

    # Cancel in the UI.
    worker = house.start_worker()
    run = house.run_into_pretraining("post-train/post-train", settings=STEPS)
    asked = time.monotonic()
    house.api("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    stops["cancel"] = seconds_until_no_rank_lives(house, asked)
    house.wait_for(lambda: house.state(run) == "Cancelled", 60)
    first = newest_step(house)

    # SIGTERM to the worker: its pool is shut down.
    run = house.run_into_pretraining("post-train/post-train", settings=STEPS)
    asked = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    stops["SIGTERM"] = seconds_until_no_rank_lives(house, asked)
    house.wait_for(lambda: house.state(run) == "Crashed", 60)
    second = newest_step(house)

    # The run is started again by itself, on a worker that is killed: its flow is told to stop, by the kernel.
    house.wait_for(lambda: not house.processes(), 40)
    known = house.checkpoints()
    worker = house.start_worker()
    house.wait_for(lambda: house.checkpoints() - known, 300, every=0.1)
    asked = time.monotonic()
    worker.kill()
    stops["SIGKILL"] = seconds_until_no_rank_lives(house, asked)
    house.wait_for(lambda: not house.processes(), 40)
    third = newest_step(house)

    assert 0 < first < second < third
    # Each went on where the one before it had saved: no step was trained twice, and none was left out.
    trained = steps_trained(house)
    assert trained == list(range(trained[0], trained[0] + len(trained)))
    assert trained[-1] >= third - 1
    again = house.runs(flow_runs={"tags": {"all_": [f"restart-of:{run}"]}})
    assert again, "expected the run whose worker was told to stop to be started again"
    for how, seconds in stops.items():
        record_property(f"ranks_gone_after_{how}_seconds", round(seconds, 2))
    assert max(stops.values()) <= RANKS_SECONDS, stops
    for one in house.runs(flow_runs={"tags": {"any_": [f"restart-of:{run}"]}}):
        if one["state_type"] in ("SCHEDULED", "PENDING"):
            house.api("POST", f"/flow_runs/{one['id']}/set_state", state={"type": "CANCELLED", "name": "Cancelled"})
