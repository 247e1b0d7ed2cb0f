"""One process that runs flows on fake stages, shared by the session: Prefect and its server start once."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).with_name("fake_house.py")
SUPPORT = Path(__file__).parents[1] / "support"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and everything it printed."""

    code: int
    text: str


class House:
    """Runs `python -m flows.<name>` on a store."""

    def __init__(self, process: "subprocess.Popen[str]", store: Path) -> None:
        self._process = process
        self.store = store

    def __call__(self, flow: str, *arguments: str, recipe: str = "fake", **environment: str) -> Ended:
        # All houses share one registry, and each has a champion of its own there.
        named = ["--set", f"model_name={re.sub('[^A-Za-z0-9]+', '-', self.store.name)}"]
        model = [] if flow in ("ablate", "diagnose") else named
        command = {
            "flow": flow,
            "recipe": f"{HOUSE}:{recipe}",
            "arguments": [*arguments, *model, "--store", str(self.store)],
            "environment": environment,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def times_run(self, stage: str) -> int:
        trace = self.store / "artifacts" / stage / "times_run"
        return len(trace.read_text()) if trace.exists() else 0


def environment(home: Path) -> dict[str, str]:
    """What a command runs in: no server of a neighbour's, one MLflow database for all, a wide screen."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    # Processes of engines find their work there.
    inherited["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SUPPORT), inherited.get("PYTHONPATH")]))
    # pytest's own warnings filter and the width of a terminal are not part of what is tested.
    return {**inherited, "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}", "COLUMNS": "160", "HOME": str(home)}


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Iterator[Path]:
    """Where stores and databases of these tests live: in memory if there is such a place.

    A run makes 185 fsyncs and the servers more, 2-4 s on a busy disk; what they protect is tested with the store.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("home")
        return
    with tempfile.TemporaryDirectory(prefix="lifecycle-tests-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def house_process(home) -> Iterator["subprocess.Popen[str]"]:
    with (home / "house.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(HOUSE)],
            env=environment(home),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="session")
def released(house_process, home) -> tuple[Path, Ended]:
    """A store after one full run."""
    house = House(house_process, home / "released")
    return house.store, house("full_lifecycle")


@pytest.fixture
def warm_store(home, request, released) -> Path:
    """An empty store that has Prefect's database already: making it costs 7 CPU-seconds."""
    store = home / request.node.name
    (store / "prefect").mkdir(parents=True)
    with (
        contextlib.closing(sqlite3.connect(released[0] / "prefect" / "prefect.db")) as made,
        contextlib.closing(sqlite3.connect(store / "prefect" / "prefect.db")) as copy,
    ):
        made.backup(copy)
    return store


@pytest.fixture
def warm_house(house_process, warm_store) -> House:
    """A house of its own with an empty store that starts fast."""
    return House(house_process, warm_store)


@pytest.fixture
def champion(house_process, home, request, released) -> House:
    """A house of its own whose store holds one released run."""
    store = home / request.node.name
    shutil.copytree(released[0], store, ignore=shutil.ignore_patterns("prefect*"))
    return House(house_process, store)


@pytest.fixture
def house(house_process, home, request) -> House:
    """A house of its own with an empty store."""
    return House(house_process, home / request.node.name)
