"""No container engine runs here: the files are checked by the specification's parser and by a linter."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
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


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_pinned_and_does_not_run_as_root(file):
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(":" in line and "latest" not in line for line in lines if line.startswith("FROM"))
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_has_nothing_to_say(file):
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint comes with the dev extra")
    ended = subprocess.run([linter, str(file)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
