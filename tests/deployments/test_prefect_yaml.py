"""What runs by itself is described once: every entry fits its flow, and a real server takes them all."""

import contextlib
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tasks.session import Request, checked_recipe

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deployments" / "prefect.yaml"
ENTRIES = {entry["name"]: entry for entry in yaml.safe_load(FILE.read_text())["deployments"]}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_names_a_flow_and_parameters_it_takes(entry):
    file, _, name = entry["entrypoint"].partition(":")
    assert (ROOT / file).is_file()
    flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
    if "parameters" in entry:
        flow.validate_parameters(entry["parameters"])


SCHEDULED = [name for name, entry in ENTRIES.items() if "schedules" in entry]


@pytest.mark.parametrize("name", SCHEDULED)
def test_what_is_scheduled_has_a_time_zone_and_never_piles_up(name):
    (schedule,) = ENTRIES[name]["schedules"]
    assert schedule["timezone"]
    assert ENTRIES[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_the_canary_runs_every_night_and_holds_its_numbers():
    assert SCHEDULED == ["canary", "full-lifecycle"]
    request = Request(**ENTRIES["canary"]["parameters"]["request"])
    assert request.canary
    assert checked_recipe(request).expected


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_says_what_it_is_from_which_code_and_where_it_runs(entry):
    assert entry["version"] == "{{ code.stdout }}"
    assert entry["tags"]
    assert entry["enforce_parameter_schema"]
    assert entry["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
    assert (entry["work_pool"]["name"] == "lifecycle-gpu") == ("gpu" in entry["tags"])
    waited_for = entry["name"] in ("promote", "rollback", "restart")
    assert entry["work_pool"]["work_queue_name"] == ("urgent" if waited_for else "default")


def test_no_entry_carries_a_secret_or_a_path_of_a_machine():
    text = FILE.read_text()
    for word in ("password", "api_key", "secret", "/home/", "/users/"):
        assert word not in text.lower()


@pytest.fixture
def server(tmp_path):
    """A real Prefect server on a free port, and the environment in which its command line works."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **inherited,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(f"{environment['PREFECT_API_URL']}/health"):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True


def prefect(environment: dict[str, str], *arguments: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_real_server_takes_every_deployment(server):
    for pool in ("lifecycle-cpu", "lifecycle-gpu"):
        prefect(server, "work-pool", "create", pool, "--type", "process")
    prefect(server, "deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
    request = urllib.request.Request(
        f"{server['PREFECT_API_URL']}/deployments/filter", data=b"{}", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        found = {deployment["name"]: deployment for deployment in json.load(response)}
    assert set(found) == set(ENTRIES)
    (version,) = {deployment["version"] for deployment in found.values()}
    assert re.fullmatch(r"[\w.+-]+", version)
    for name, deployment in found.items():
        assert deployment["work_pool_name"] == ENTRIES[name]["work_pool"]["name"]
        assert deployment["work_queue_name"] == ENTRIES[name]["work_pool"]["work_queue_name"]
        assert deployment["job_variables"] == ENTRIES[name]["work_pool"]["job_variables"]
        assert deployment["tags"] == ENTRIES[name]["tags"]
        assert deployment["version"] == version
        assert deployment["entrypoint"] == ENTRIES[name]["entrypoint"]
        assert deployment["parameters"] == ENTRIES[name].get("parameters", {})
        assert deployment["enforce_parameter_schema"]
        asks = "flow_run" if name == "restart" else "request"
        assert deployment["parameter_openapi_schema"]["required"] == [asks]
    (nightly,) = found["canary"]["schedules"]
    assert nightly["schedule"]["cron"] == "0 3 * * *"
    assert nightly["schedule"]["timezone"] == "Etc/UTC"
    assert found["canary"]["global_concurrency_limit"]["limit"] == 1
    assert found["canary"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
