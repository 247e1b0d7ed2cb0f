"""The ways of use that need servers, on real ones: scheduled, on request, and through every crash we can plant."""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENTRIES = {e["name"]: e for e in yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())["deployments"]}

pytestmark = pytest.mark.slow  # the servers alone take half a minute to start


def status(url: str, body: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_every_deployment_is_there_and_the_scheduled_ones_have_runs_planned(house):
    """Under SQLAlchemy 2.1 Prefect's scheduler planned none, and nothing said so but its log."""
    found = {one["name"]: one for one in house.api("POST", "/deployments/filter", limit=100)}
    assert set(found) == set(ENTRIES)
    scheduled = {name for name, entry in ENTRIES.items() if entry.get("schedules")}
    assert scheduled == {"canary", "full-lifecycle"}

    def planned() -> set[str]:
        waiting = house.runs(flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})
        return {name for name in scheduled if any(run["deployment_id"] == found[name]["id"] for run in waiting)}

    house.wait_for(lambda: planned() == scheduled, 90, every=2)


def test_registering_again_changes_nothing(house):
    before = house.api("POST", "/automations/filter", limit=100)
    house.register()
    after = house.api("POST", "/automations/filter", limit=100)
    assert [(a["id"], a["name"]) for a in after] == [(a["id"], a["name"]) for a in before]
    assert {a["name"] for a in after} == {"lifecycle: dead runs", "lifecycle: restart what crashed"}


def test_a_request_without_a_password_is_refused_by_both_servers(house):
    mlflow = house.environment["MLFLOW_TRACKING_URI"]
    assert status(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1") == 401
    assert status(f"{house.environment['PREFECT_API_URL']}/csrf-token?client=x") == 401


def test_a_request_from_another_origin_is_refused_by_both_servers(house):
    """What a web page can make a browser send: the password of the browser's session, but no token."""
    user, _, password = house.environment["PREFECT_API_AUTH_STRING"].partition(":")
    runs = f"{house.environment['PREFECT_API_URL']}/flow_runs/filter"
    assert status(runs, b"{}", Authorization=basic(user, password), Origin="http://evil.example") == 403

    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    known = basic(*(house.environment[name] for name in names))
    experiments = f"{house.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
    question = b'{"max_results": 1}'
    assert status(experiments, question, Authorization=known) == 200
    assert status(experiments, question, Authorization=known, Origin="http://evil.example") == 403
    assert status(experiments, question, Authorization=known, Host="evil.example") == 403


def test_no_password_is_on_a_command_line_or_readable_by_others(house):
    secrets = [file for file in (house.home / "servers" / "secrets").iterdir() if file.name != "pgpass"]
    assert len(secrets) == 4
    for file in (*secrets, house.home / "servers/secrets/pgpass"):
        assert file.stat().st_mode & 0o077 == 0
    values = [file.read_bytes() for file in secrets]
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    assert not [line for line in lines for value in values if value in line]


def slots_taken(house) -> int:
    return int(house.api("GET", "/v2/concurrency_limits/accelerators")["active_slots"])


def killed(house, server: str) -> None:
    """SIGKILL a server, leave it dead for a moment, and start it again."""
    os.kill(int((house.home / f"servers/{server}.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(2)
    house.servers("start")


LONGER = ["pretrain.horizon.steps=400"]  # long enough to kill three things in it


def test_a_run_survives_both_servers_and_is_started_again_when_worker_and_flow_are_killed(house):
    """One training, one thing killed at a time: the Prefect server, PostgreSQL, then all that ran on the machine."""
    house.stop_workers()
    house.wait_for(lambda: slots_taken(house) == 0, 120, every=1)  # of runs that other tests killed: leases run out
    worker = house.start_worker()
    run = house.run_into_pretraining("full-lifecycle/canary", settings=LONGER)
    ranks = sorted(house.ranks())
    for server in ("prefect", "postgres"):
        killed(house, server)
        assert sorted(house.ranks()) == ranks, f"{server} ended the training"
    assert slots_taken(house) <= 2
    known = house.checkpoints()
    house.wait_for(lambda: house.checkpoints() - known, 60, every=0.1)

    os.killpg(worker.pid, signal.SIGKILL)
    house.kill(house.processes())
    house.wait_for(lambda: not house.processes(), 5, every=0.1)  # P6
    house.start_worker()
    assert house.end_of(run, 180) == "Crashed"
    found = {"tags": {"all_": [f"restart-of:{run}"]}}
    (again,) = house.wait_for(lambda: house.runs(flow_runs=found), 120, every=1)
    assert house.end_of(again["id"], 400) == "Released"
    (metrics,) = house.store.glob("artifacts/pretrain/*/log/metrics.jsonl")
    assert metrics.read_text().count('"step": 10,') == 1  # it went on from the checkpoint: no step was trained twice
    made = [json.loads(file.read_text()) for file in house.store.glob("runs/*/*.stage.json")]
    assert max(Counter(record["path"] for record in made if not record["reused"]).values()) == 1
    house.wait_for(lambda: slots_taken(house) == 0, 90, every=1)


def test_a_second_canary_reuses_every_stage_of_the_first(house):
    house.a_worker()
    before = {path.name for path in house.store.glob("artifacts/*/*")}
    run = house.run("full-lifecycle/canary", settings=LONGER)
    assert house.end_of(run, 240) == "Released"
    assert {path.name for path in house.store.glob("artifacts/*/*")} == before


def test_no_secret_of_the_environment_or_of_a_block_is_written_anywhere(house):
    """P8: what clients and workers hold is in no dump, artifact, manifest, report or log, nor in base64."""
    secrets = [
        house.environment[name] for name in ("MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING", *house.canaries)
    ]
    secrets.append(house.block)
    forms = [form for text in secrets for form in (text.encode(), base64.b64encode(text.encode()))]
    port = str(yaml.safe_load((house.home / "servers/ports.json").read_text())["postgres"])
    passwords = {**os.environ, "PGPASSFILE": str(house.home / "servers/secrets/pgpass")}
    for database in ("prefect", "mlflow", "mlflow_users"):
        dump = subprocess.run(
            ["pg_dump", "-h", "127.0.0.1", "-p", port, "-U", "lifecycle", database],
            env=passwords,
            capture_output=True,
            check=True,
        ).stdout
        assert len(dump) > 1_000
        assert not [form for form in forms if form in dump], database
    places = [
        house.store,
        house.home / "servers/log",
        house.home / "servers/mlflow/artifacts",
        house.home / "worker.log",
    ]
    looked = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
    assert {"report.html", "manifest.json", "run.json", "worker.log"} <= {file.name for file in looked}
    for file in looked:
        content = file.read_bytes()
        assert not [form for form in forms if form in content], file
