"""MLflow away at the start, in the middle and at promotion: said, kept, replayed once; nothing goes live unrecorded."""

import os
import signal
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SETTINGS = ["pretrain.seed=77", "pretrain.horizon.steps=400"]  # stages of its own, and time to be away twice


def down(house) -> None:
    os.killpg(int((house.home / "servers/mlflow.pid").read_text().split()[0]), signal.SIGKILL)


def ledger(house) -> int:
    file = house.store / "ledger.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def waiting(house) -> int:
    return len(list((house.store / "tracking/outbox").glob("[0-9]*.json")))


def mlflow(house, path: str, **question: Any) -> dict[str, Any]:
    import httpx

    known = (house.environment["MLFLOW_TRACKING_USERNAME"], house.environment["MLFLOW_TRACKING_PASSWORD"])
    answer = httpx.post(f"{house.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{path}", json=question, auth=known)
    answer.raise_for_status()
    return dict(answer.json())


def keys(house) -> list[str]:
    """The key of every MLflow run of this store's runs: one of the run itself, one of each stage."""
    names = {file.parent.name for file in house.store.glob("runs/*/run.json")}
    found = mlflow(house, "experiments/search", max_results=100)["experiments"]
    ids = [experiment["experiment_id"] for experiment in found]
    runs = mlflow(house, "runs/search", experiment_ids=ids, max_results=5000).get("runs", [])
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    known = [tag["lifecycle.key"] for tag in tags if "lifecycle.key" in tag]
    return [key for key in known if key.split("/")[0] in names]


def messages(house, run: str) -> str:
    logs = house.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": [run]}}, limit=200)
    return "\n".join(log["message"] for log in logs)


def test_an_outage_is_said_the_promotion_fails_closed_and_every_record_is_replayed_once(house):
    house.stop_workers()
    house.start_worker()
    before = ledger(house)
    try:
        down(house)  # at the start
        run = house.run("evaluate-release/evaluate-release", settings=SETTINGS)
        house.wait_for(lambda: waiting(house) >= 3, 240)
        house.servers("start")  # back, and away again in the middle
        house.wait_for(lambda: waiting(house) == 0, 120)
        down(house)
        assert house.end_of(run, 400) == "Failed"  # at promotion
        assert "to register release" in house.api("GET", f"/flow_runs/{run}")["state"]["message"]
        assert "Nothing was promoted" in house.api("GET", f"/flow_runs/{run}")["state"]["message"]
        assert ledger(house) == before
        assert "does not answer" in (house.home / "worker.log").read_text(errors="replace")
        assert waiting(house) > 0
    finally:
        house.servers("start")

    again = house.run("evaluate-release/evaluate-release", settings=SETTINGS)
    assert house.end_of(again, 240) == "Released"
    assert ledger(house) == before + 1
    house.wait_for(lambda: waiting(house) == 0, 60)
    recorded = keys(house)
    assert sorted(recorded) == sorted(set(recorded)), "replayed twice"
    expected = {file.parent.name for file in house.store.glob("runs/*/run.json")}
    expected |= {
        f"{f.parent.name}/{f.name.removesuffix('.stage.json')}" for f in house.store.glob("runs/*/*.stage.json")
    }
    assert expected == set(recorded)
    assert not list((house.store / "tracking").glob("refused/*"))
