"""A house of servers for the tests of this folder: PostgreSQL, Prefect and MLflow as `make servers` starts them.

One for the whole session. `LIFECYCLE_TEST_HOUSE=DIR` keeps its servers for the next session, which then starts at once.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = f"{Path(__file__).with_name('micro.py')}:micro"
SILENCE_SECONDS = 70  # one of Prefect's heartbeats, 30 s apart, may be lost while PostgreSQL is away
ACCELERATORS = 4  # a job of two ranks takes two
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

KEEP_SECRET = """
import sys
from prefect.blocks.system import Secret
Secret(value=sys.argv[1]).save("canary", overwrite=True)
"""


@dataclass
class House:
    """Servers in a folder, what a client of theirs exports, and workers that can be killed."""

    home: Path
    store: Path
    environment: dict[str, str] = field(default_factory=dict)
    canaries: dict[str, str] = field(
        default_factory=lambda: {name: f"canary-{uuid4().hex}" for name in ("CANARY_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    )
    """Secrets that workers, flows and ranks find in their environment, and nobody may ever read anywhere else."""
    block: str = field(default_factory=lambda: f"canary-{uuid4().hex}")
    """The secret of a Prefect block."""
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def servers(self, action: str, *more: str) -> str:
        """What `deployments/servers.py` says; raises when it fails."""
        command = [sys.executable, "deployments/servers.py", action, "--home", str(self.home / "servers"), *more]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def register(self) -> str:
        """Tell the Prefect server all that runs by itself."""
        silence, accelerators = str(SILENCE_SECONDS), str(ACCELERATORS)
        return self.program("deployments/register.py", "--silence-seconds", silence, "--accelerators", accelerators)

    def program(self, *words: str) -> str:
        """What a Python program prints that speaks to the servers."""
        ended = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        return ended.stdout

    def start_worker(self, *, limit: int = 3, **more: str) -> "subprocess.Popen[bytes]":
        """One that takes up to `limit` runs at a time; `more` is added to its environment."""
        log = (self.home / "worker.log").open("ab")
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lifecycle-cpu", "--limit", str(limit)]
        worker = subprocess.Popen(
            command, cwd=ROOT, env={**self.environment, **more}, stdout=log, stderr=log, start_new_session=True
        )
        self.workers.append(worker)
        return worker

    def a_worker(self) -> "subprocess.Popen[bytes]":
        """One that lives, started if there is none."""
        living = [worker for worker in self.workers if worker.poll() is None]
        return living[0] if living else self.start_worker()

    def stop_workers(self) -> None:
        """Tell all workers to stop, and wait until they have, with every process of their runs."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            worker.wait(40)
        self.workers.clear()
        self.wait_for(lambda: not self.processes(), 40)

    def processes(self, *words: bytes) -> list[int]:
        """Processes of this house's runs that have one of `words` in their command line: flows, nodes and ranks."""
        words = words or (b"flows.sheltered", b"prefect.engine", b"lifecycle.workers")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                mine = str(self.store).encode() in command + (folder / "environ").read_bytes()
                alive = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
            except OSError:
                continue
            if mine and alive and any(word in command for word in words):
                found.append(int(folder.name))
        return found

    def ranks(self) -> list[int]:
        """Processes that train, and what holds them together."""
        return self.processes(b"lifecycle.workers.")

    def kill(self, processes: list[int]) -> None:
        """SIGKILL, each."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def api(self, method: str, path: str, items: list[Any] | None = None, **body: Any) -> Any:
        """An answer of the Prefect server to an object or a list."""
        import httpx

        user, _, password = self.environment["PREFECT_API_AUTH_STRING"].partition(":")
        with httpx.Client(auth=(user, password), timeout=30) as client:
            url = self.environment["PREFECT_API_URL"]
            token = client.get(f"{url}/csrf-token", params={"client": "tests"}).json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
            answer = client.request(method, url + path, headers=headers, json=items or body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def run(self, deployment: str, **request: Any) -> str:
        """Start a run of a deployment as the UI does; its id."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        parameters = {"request": {"recipe": RECIPE, **request}}
        return str(self.api("POST", f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"])

    def runs(self, **narrowed: Any) -> list[dict[str, Any]]:
        return list(self.api("POST", "/flow_runs/filter", **narrowed))

    def checkpoints(self) -> set[tuple[str, int]]:
        """Those of every pretraining that is not sealed, by path and inode: one made anew under its name is another."""
        found = self.store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*/manifest.json")
        return {(str(file.parent), file.stat().st_ino) for file in found}

    def run_into_pretraining(self, deployment: str, **request: Any) -> str:
        """Start a run and wait until its pretraining has saved a checkpoint; its id."""
        known = self.checkpoints()
        run = self.run(deployment, **request)
        self.wait_for(lambda: self.checkpoints() - known, 300, every=0.1)
        return run

    def state(self, run: str) -> str:
        return str(self.api("GET", f"/flow_runs/{run}")["state_name"])

    def end_of(self, run: str, seconds: float) -> str:
        """The name of the state a run ends in, once it has."""

        def ended() -> str | None:
            found = self.api("GET", f"/flow_runs/{run}")
            return found["state_name"] if found["state_type"] in ENDS else None

        return str(self.wait_for(ended, seconds, every=1))

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
    kept = os.environ.get("LIFECYCLE_TEST_HOUSE")
    home = Path(kept or tempfile.mkdtemp(prefix="lifecycle-house-"))
    home.mkdir(exist_ok=True)
    home.chmod(0o755)  # PostgreSQL runs as another account where we are root
    house = House(home, store=Path(tempfile.mkdtemp(prefix="store-", dir=home)))
    try:
        asked = () if kept else ("--postgres-port", "0", "--prefect-port", "0", "--mlflow-port", "0")
        house.servers("start", *asked)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        lines = (line.removeprefix("export ").partition("=") for line in house.servers("environment").splitlines())
        house.environment = {
            **inherited,
            **house.canaries,
            **{name: value.strip("'") for name, _, value in lines},
            "LIFECYCLE_STORE": str(house.store),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_HOME": str(home / "client"),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
            "LIFECYCLE_ACCELERATORS": ",".join(map(str, range(ACCELERATORS))),  # names are enough for locks and slots
            "LIFECYCLE_ACCELERATOR_LOCKS": str(house.store / "accelerators"),
            # `command: python ...` of a deployment is looked for there
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        }
        house.register()
        house.program("-c", KEEP_SECRET, house.block)
        yield house
    finally:
        for worker in house.workers:
            worker.terminate()
        for worker in house.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
        shutil.rmtree(house.store, ignore_errors=True)
        if not kept:
            house.servers("stop")
            shutil.rmtree(home, ignore_errors=True)
