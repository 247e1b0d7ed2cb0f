"""A house of servers for the tests of this folder: PostgreSQL, Prefect and MLflow as `make servers` starts them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = f"{Path(__file__).with_name('micro.py')}:micro"
SILENCE_SECONDS = 65  # Prefect's shortest heartbeat is 30 s: two of them and a little


@dataclass
class House:
    """Servers in a folder, what a client of theirs exports, and workers that can be killed."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.home / "store"

    def servers(self, action: str, *more: str) -> str:
        """What `deployments/servers.py` says; raises when it fails."""
        command = [sys.executable, "deployments/servers.py", action, "--home", str(self.home / "servers"), *more]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def program(self, *words: str) -> str:
        """What a Python program prints that speaks to the servers."""
        ended = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        return ended.stdout

    def start_worker(self) -> "subprocess.Popen[bytes]":
        log = (self.home / "worker.log").open("ab")
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lifecycle-cpu"]
        worker = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        self.workers.append(worker)
        return worker

    def api(self, method: str, path: str, **body: Any) -> Any:
        """An answer of the Prefect server."""
        import httpx

        user, _, password = self.environment["PREFECT_API_AUTH_STRING"].partition(":")
        with httpx.Client(auth=(user, password), timeout=30) as client:
            url = self.environment["PREFECT_API_URL"]
            token = client.get(f"{url}/csrf-token", params={"client": "tests"}).json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
            answer = client.request(method, url + path, headers=headers, json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def run(self, deployment: str, **request: Any) -> str:
        """Start a run of a deployment as the UI does; its id."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        parameters = {"request": {"recipe": RECIPE, **request}}
        return str(self.api("POST", f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"])

    def runs(self, **narrowed: Any) -> list[dict[str, Any]]:
        return list(self.api("POST", "/flow_runs/filter", **narrowed))

    def state(self, run: str) -> str:
        return str(self.api("GET", f"/flow_runs/{run}")["state_name"])

    def wait_for(self, what: Callable[[], Any], seconds: float, *, every: float = 0.5) -> Any:
        """The first true answer; fails with the worker's log when none comes in time."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            log = self.home / "worker.log"
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:] if log.exists() else "no worker"
            time.sleep(every)
        return found


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="needs the extra `servers`")
    home = Path(tempfile.mkdtemp(prefix="lifecycle-house-"))
    home.chmod(0o755)  # PostgreSQL runs as another account where we are root
    house = House(home)
    try:
        house.servers("start", "--postgres-port", "0", "--prefect-port", "0", "--mlflow-port", "0")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        lines = (line.removeprefix("export ").partition("=") for line in house.servers("environment").splitlines())
        house.environment = {
            **inherited,
            **{name: value.strip("'") for name, _, value in lines},
            "LIFECYCLE_STORE": str(house.store),
            "PREFECT_HOME": str(home / "client"),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
        }
        house.program("deployments/register.py", "--silence-seconds", str(SILENCE_SECONDS))
        yield house
    finally:
        for worker in house.workers:
            worker.terminate()
        for worker in house.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
        house.servers("stop")
        shutil.rmtree(home, ignore_errors=True)
