"""No container engine runs here: the files are checked by the specification's parser and by a linter, and what the
services run is run, by the same shell, beside a real PostgreSQL.
"""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DIGEST = r"@sha256:[0-9a-f]{64}"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*"))


def test_docker_is_no_package_or_it_would_hide_the_library_of_that_name():
    assert not list(DOCKER.glob("*.py"))


def test_compose_follows_the_specification_and_every_reference_resolves():
    compose_spec = pytest.importorskip("compose_spec")
    parsed = yaml.safe_load(
        (DOCKER / "compose.yaml").read_text()
    )  # merges `<<`, as compose does and the parser does not
    compose = compose_spec.PyCompose.from_json(json.dumps(parsed))
    assert set(compose.service_names()) == {"postgres", "prefect", "mlflow", "worker-cpu", "worker-gpu"}
    for service in parsed["services"].values():
        assert set(service.get("depends_on", {})) <= set(parsed["services"])
        assert set(service.get("secrets", [])) <= set(parsed["secrets"])
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in parsed["volumes"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "a server is for this machine until somebody decides otherwise"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    images = [service["image"] for service in parsed["services"].values() if "build" not in service]
    assert all(re.fullmatch(rf"[a-z]+{DIGEST}", image) for image in images)
    assert parsed["services"]["postgres"]["user"] == "postgres"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_pinned_and_does_not_run_as_root(file):
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(rf"FROM [a-z]+:[0-9][^ ]*{DIGEST}", line) for line in lines if line.startswith("FROM"))
    assert "PIP_CONSTRAINT=/app/constraints.txt" in file.read_text()  # for build systems, too
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)


def test_a_build_is_given_what_it_copies_and_no_password():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copies = [line.split() for file in DOCKERFILES for line in file.read_text().splitlines() if line.startswith("COPY")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {source for copy in copies for source in copy[1:-1]}


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_has_nothing_to_say(file):
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint comes with the dev extra")
    ended = subprocess.run([linter, str(file)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_every_package_of_an_image_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line and not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found, waiting = set[str](), [*project["dependencies"], *extras["servers"], *extras["s3"]]
    while waiting:
        requirement = Requirement(waiting.pop())
        wanted = ["", *requirement.extras]
        name = canonicalize_name(requirement.name)
        needed = not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in wanted)
        if not needed or (name in found and not requirement.extras):
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            below = Requirement(line)
            if not below.marker or any(below.marker.evaluate({"extra": extra}) for extra in wanted):
                below.marker = None
                waiting.append(str(below))
    assert found - pinned == set()


SECRETS = {
    "postgres_password": "hunter2-postgres",
    "mlflow_password": "hunter2-mlflow-long",
    "mlflow_session": "s" * 48,
}
SECRETS["prefect_auth"] = "lifecycle:hunter2-prefect"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="needs the extra `servers`")
    sys.path.insert(0, str(ROOT / "deployments"))
    from postgres import Postgres
    from processes import free_port

    home = Path(tempfile.mkdtemp(prefix="lifecycle-docker-"))
    home.chmod(0o755)
    port = free_port()
    pgpass = home / "pgpass"
    pgpass.write_text(f"127.0.0.1:{port}:*:lifecycle:{SECRETS['postgres_password']}\n")
    pgpass.chmod(0o600)
    server = Postgres(home / "postgres", port=port, user="lifecycle", password_file=pgpass)
    process = subprocess.Popen(server.command(SECRETS["postgres_password"]), stderr=subprocess.DEVNULL, cwd="/")
    try:
        while not server.answers():
            assert process.poll() is None
            time.sleep(0.1)
        for database in ("prefect", "mlflow", "mlflow_users"):
            server.create(database)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)
        sys.path.remove(str(ROOT / "deployments"))


def answer(url: str, user: str = "") -> int:
    """The status of an answer; 0 when there is none."""
    headers = {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
    try:
        return int(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def seen(group: int) -> str:
    """Command lines and environments of all processes of a session, as `ps` and `/proc` show them."""
    said = ""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3]) == group:
                said += ((folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()).decode(errors="replace")
        except OSError:
            continue
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "port", "health", "asked", "user"),
    [
        ("mlflow", 5000, "/health", "/api/2.0/mlflow/experiments/get?experiment_id=0", "lifecycle:hunter2-mlflow-long"),
        ("prefect", 4200, "/api/health", "/api/admin/version", SECRETS["prefect_auth"]),
    ],
    ids=["mlflow", "prefect"],  # pytest puts the name of a test into its environment
)
def test_the_shell_of_a_service_starts_it_with_passwords_that_nobody_sees(
    postgres, tmp_path, name, port, health, asked, user
):
    from processes import free_port

    here = free_port()
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][name]
    (tmp_path / "secrets").mkdir()
    for secret in service["secrets"]:
        (tmp_path / "secrets" / secret).write_text(SECRETS[secret] + "\n")

    places = {
        "$$": "$",
        "/tmp/": f"{tmp_path}/",
        "/run/secrets": f"{tmp_path}/secrets",
        "/mlartifacts": f"{tmp_path}/files",
        "/prefect/": f"{tmp_path}/home/",
        "postgres:5432": f"127.0.0.1:{postgres.port}",
        "0.0.0.0": "127.0.0.1",
        f"--port {port}": f"--port {here}",
        f"127.0.0.1:{port}": f"127.0.0.1:{here}",
    }

    def moved(text: str) -> str:
        """As it is in a container, but for where things are."""
        for there, this in places.items():
            text = text.replace(there, this)
        return text

    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "PG"))}
    environment = {key: moved(value) for key, value in service["environment"].items()}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "home"),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [moved(word) for word in service["command"]],
            env={**kept, **environment, "DO_NOT_TRACK": "1"},
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        url, deadline = f"http://127.0.0.1:{here}", time.monotonic() + 400
        while answer(url + health) != 200:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.3)
        assert answer(url + asked) == 401
        assert answer(url + asked, "lifecycle:wrong") == 401
        assert answer(url + asked, user) == 200
        shown = seen(process.pid)
        assert str(here) in shown
        assert SECRETS["postgres_password"] not in shown
        assert SECRETS["mlflow_password"] not in shown
        private = [file for file in (tmp_path / "pgpass", tmp_path / "auth.ini") if file.exists()]
        assert private
        assert not any(file.stat().st_mode & 0o077 for file in private)
        assert not any(secret in (tmp_path / "log").read_text() for secret in SECRETS.values())
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
