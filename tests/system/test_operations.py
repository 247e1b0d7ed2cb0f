"""The ways of use that need servers, on real ones: scheduled, on request, and through every crash we can plant."""

import base64
import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
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
    house.program("deployments/register.py", "--silence-seconds", "65")
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


def processes_of(house) -> list[int]:
    """Flow processes and ranks of this house, not its servers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            mine = str(house.store).encode() in words + (folder / "environ").read_bytes()
        except OSError:
            continue
        if mine and (b"prefect.engine" in words or b"lifecycle.workers" in words or b"flow-run" in words):
            found.append(int(folder.name))
    return found


def in_pretraining(house) -> bool:
    return bool(list(house.store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*")))


def test_a_run_whose_worker_and_flow_are_killed_is_started_again_and_released(house):
    worker = house.start_worker()
    run = house.run("full-lifecycle/canary")
    house.wait_for(lambda: in_pretraining(house), 240)
    os.killpg(worker.pid, signal.SIGKILL)
    for process in processes_of(house):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    killed = time.monotonic()
    while (alive := processes_of(house)) and time.monotonic() < killed + 5:
        time.sleep(0.1)
    assert alive == []  # P6
    house.start_worker()
    house.wait_for(lambda: house.state(run) == "Crashed", 180, every=2)

    def again() -> list[dict]:
        return house.runs(flow_runs={"tags": {"all_": [f"restart-of:{run}"]}})

    (restarted,) = house.wait_for(again, 120, every=2)
    house.wait_for(lambda: house.state(restarted["id"]) == "Released", 300, every=2)
    log = next(house.store.glob("artifacts/pretrain/*/log/metrics.jsonl")).read_text()
    assert log.count('"step": 10,') == 1  # it went on from the checkpoint: no step was trained twice


def test_a_second_canary_reuses_every_stage_of_the_first(house):
    before = {path.name for path in house.store.glob("artifacts/*/*")}
    run = house.run("full-lifecycle/canary")
    house.wait_for(lambda: house.state(run) in ("Released", "Blocked", "Failed", "Crashed"), 240, every=2)
    assert house.state(run) == "Released"
    assert {path.name for path in house.store.glob("artifacts/*/*")} == before


@pytest.mark.parametrize("name", ["prefect", "postgres"])
def test_a_server_killed_in_mid_pretraining_does_not_stop_the_run(house, name):
    run = house.run("full-lifecycle/canary", settings=[f"pretrain.seed={len(name)}"])
    known = len(list(house.store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*")))
    house.wait_for(lambda: len(list(house.store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*"))) > known, 240)
    pid = int((house.home / f"servers/{name}.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(5)
    house.servers("start")

    def released() -> bool:
        again = house.runs(flow_runs={"tags": {"all_": [f"restart-of:{run}"]}})
        return any(house.state(one) == "Released" for one in (run, *(found["id"] for found in again)))

    house.wait_for(released, 400, every=2)


def test_no_secret_of_the_environment_reaches_the_databases(house):
    """P8: what clients and workers hold as passwords is in no dump, no store and no log of ours."""
    secret = house.environment["MLFLOW_TRACKING_PASSWORD"].encode()
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
        assert secret not in dump
    for file in house.store.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), file
