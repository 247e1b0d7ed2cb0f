"""Twenty runs at once on two workers: what is equal is made once, all end, and nobody meets a lock."""

import json
from collections import Counter

import pytest

pytestmark = pytest.mark.slow

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_twenty_runs_at_once_make_each_stage_of_equal_identity_once_and_all_end(house):
    house.stop_workers()
    first, second = house.start_worker(limit=3), house.start_worker(limit=3)
    # Two tokenizers: half of the runs are equal to each other, and corpus and suites to all.
    asked = [[], ["tokenizer.vocab_size=900"]]
    runs = [house.run("prepare-data/prepare-data", settings=asked[number % 2]) for number in range(20)]

    def open_runs() -> list[str]:
        found = house.runs(flow_runs={"id": {"any_": runs}}, limit=50)
        return [run["name"] for run in found if run["state_type"] not in ENDED]

    house.wait_for(lambda: not open_runs(), 600, every=2)
    found = house.runs(flow_runs={"id": {"any_": runs}}, limit=50)
    assert Counter(run["state_name"] for run in found) == {"Completed": 20}

    records = [json.loads(file.read_text()) for file in house.store.glob("runs/*/*.stage.json")]
    prepared = [record for record in records if record["stage"] in ("suites", "corpus", "tokenizer", "shards")]
    made = Counter(record["path"] for record in prepared if not record["reused"])
    assert set(made.values()) == {1}, "made more than once"
    assert set(made) == {record["path"] for record in prepared}
    assert Counter(path.split("/")[-2] for path in made) == {"suites": 1, "corpus": 1, "tokenizer": 2, "shards": 2}

    logs = house.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": runs}, "level": {"ge_": 30}}, limit=200)
    told = "\n".join(log["message"] for log in logs) + (house.home / "worker.log").read_text(errors="replace")
    assert "database is locked" not in told
    assert (first.poll(), second.poll()) == (None, None)
