"""Jobs as TrainJobs: what is rendered has the schema, and what a server may answer leads to one job of a key."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_api as fake
import pytest
import yaml
from pydantic import ValidationError

from lifecycle.errors import ConfigError, WorkerFailed
from lifecycle.launchers import board, kubernetes, kubernetes_api
from lifecycle.launchers.board import Board
from lifecycle.launchers.kubernetes import Kubernetes, KubernetesSettings, train_job
from lifecycle.launchers.kubernetes_api import Api
from lifecycle.launchers.shape import Handle, Resources

models = pytest.importorskip("kubeflow_trainer_api.models", reason="comes with the dev extra")
batch_v1 = pytest.importorskip("kubeflow_trainer_api.models.io_k8s_api_batch_v1_job")
TWO = Resources(nodes=2, ranks=8, accelerators=8)
KEY = "pretrain-2b1c0d9e8f7a6b5c-9f0e1d2c-5a6b7c8d"
DOCKER = Path(__file__).parents[3] / "docker" / "kubernetes"


@pytest.fixture
def cluster() -> fake.Cluster:
    return fake.Cluster()


@pytest.fixture
def launcher(cluster, tmp_path, monkeypatch) -> Iterator[Kubernetes]:
    monkeypatch.setattr(kubernetes_api, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(kubernetes, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(kubernetes, "ASK_SECONDS", 0.0)
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(f"{fake.TOKEN}\n")
    (account / "namespace").write_text("training")
    with fake.api_server(cluster) as url:
        yield Kubernetes(tmp_path / "board", KubernetesSettings(), api=Api(url, account=account))


def submit(launcher: Kubernetes, tmp_path: Path) -> Handle:
    (tmp_path / "job").mkdir(exist_ok=True)
    return launcher.submit("worker", tmp_path / "job", KEY, TWO)


def home_of(launcher: Kubernetes, handle: Handle) -> Path:
    return launcher.board.folder / handle.id.split(":")[1]


def has_the_schema(model: Any, document: dict[str, Any]) -> None:
    """Valid, and nothing in it that the schema does not know: its models drop such keys without a word."""
    assert model.from_dict(document).to_dict() == document


def test_a_train_job_has_the_schema_and_says_what_was_asked(tmp_path):
    call, home = Board(tmp_path).post("worker", tmp_path, KEY, TWO)
    settings = KubernetesSettings(
        image="registry.example/llm@sha256:" + "0" * 64,
        queue="research",
        resources={"nvidia.com/gpu": "8", "memory": "900Gi"},
        environment={"SAID": "$(HOME) $$"},
    )
    job = train_job(call, home, settings)
    has_the_schema(models.TrainerV1alpha1TrainJob, job)
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]) == (2, "8")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert {"name": "SAID", "value": "$$(HOME) $$$$"} in trainer["env"]  # Kubernetes reads it as it was written
    assert len(job["metadata"]["name"] + "-node-0-511") <= 63


def test_a_long_or_odd_key_is_still_a_name_and_two_keys_are_two(tmp_path):
    names = {kubernetes._name(key) for key in ("x" * 63, "x" * 62 + "y", "1-2b1c", KEY)}
    assert len(names) == 4
    assert all(name[0].isalpha() and len(name) <= kubernetes.LONGEST_NAME for name in names)


def test_a_pod_starts_the_supervisor_of_its_number(tmp_path):
    call, home = Board(tmp_path / "it's $HOME").post("worker", tmp_path, KEY, TWO)
    trainer = train_job(call, home, KubernetesSettings(python="/bin/echo"))["spec"]["trainer"]
    given = {each["name"]: each["value"].replace("$$", "$") for each in trainer["env"] if "value" in each}
    environment = {**given, "JOB_COMPLETION_INDEX": "1"}
    said = subprocess.run(trainer["command"], env=environment, capture_output=True, text=True, check=True).stdout
    assert said == f"-m lifecycle.workers.node {os.getpid()} {home} 1\n"


@pytest.mark.parametrize(
    "setting",
    [
        {"image": "a b"},
        {"python": "python; id"},
        {"runtime": "../x"},
        {"namespace": "a/b"},
        {"resources": {"cpu": "4; id"}},
        {"environment": {"a": "b"}},
        {"server": "file:///etc/passwd"},
    ],
)
def test_an_odd_setting_is_refused(setting):
    with pytest.raises(ValidationError):
        KubernetesSettings(**setting)


def test_a_token_is_not_sent_in_the_clear_nor_to_where_a_redirect_points(launcher, cluster):
    with pytest.raises(ConfigError, match="A token is never sent in the clear"):
        Api("http://10.0.0.1:8001")
    cluster.faults = [302]
    with pytest.raises(ConfigError, match="answered with 302"):
        launcher.reattach(KEY)
    assert len(cluster.asked) == 1


def test_outside_of_a_cluster_it_says_how_to_reach_one(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="kubectl proxy"):
        Api(None)


def test_one_that_exists_is_the_job(launcher, cluster, tmp_path):
    handle = submit(launcher, tmp_path)
    assert submit(launcher, tmp_path) == handle
    assert launcher.reattach(KEY) == handle
    assert len(cluster.jobs) == 1
    assert [path.name for path in launcher.board.folder.iterdir()] == [home_of(launcher, handle).name]


def test_a_create_that_broke_off_after_it_was_carried_out_is_no_second_job(launcher, cluster, tmp_path):
    cluster.faults = [0]
    handle = submit(launcher, tmp_path)
    assert [method for method, _ in cluster.asked] == ["POST", "POST", "GET"]
    assert home_of(launcher, handle).exists()
    assert len(cluster.jobs) == 1


def test_one_that_is_over_makes_way_and_is_waited_for(launcher, cluster, tmp_path):
    old = submit(launcher, tmp_path)
    cluster.say(type="Failed")
    cluster.finalizers = 3
    assert launcher.reattach(KEY) is None
    new = submit(launcher, tmp_path)
    assert new.id != old.id
    assert len(cluster.jobs) == 1


def test_one_that_is_not_ours_is_left_alone(launcher, cluster, tmp_path):
    submit(launcher, tmp_path)
    [job] = cluster.jobs.values()
    job["metadata"]["annotations"] = {kubernetes.HOME: "../../etc"}
    with pytest.raises(WorkerFailed, match="somebody else's"):
        submit(launcher, tmp_path)
    assert "deletionTimestamp" not in job["metadata"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_again(launcher, cluster, tmp_path, status):
    cluster.faults = [status, status]
    submit(launcher, tmp_path)
    assert len(cluster.asked) == 3


def test_what_does_not_pass_is_said_once_and_leaves_nothing(launcher, cluster, tmp_path):
    cluster.faults = [500] * 20
    with pytest.raises(WorkerFailed, match="found in 6 attempts: status 500"):
        submit(launcher, tmp_path)
    assert not list(launcher.board.folder.iterdir())


def test_a_token_that_was_replaced_is_read_again_and_a_wrong_one_is_said(launcher, cluster, tmp_path):
    cluster.faults = [401]
    submit(launcher, tmp_path)
    (launcher.api.account / "token").write_text("old")
    with pytest.raises(ConfigError, match="expected a service account that may do this"):
        launcher.reattach(KEY)


def test_its_state_is_the_clusters_and_its_end_its_own(launcher, cluster, tmp_path, monkeypatch):
    handle = submit(launcher, tmp_path)
    home = home_of(launcher, handle)
    assert launcher.status(handle).reason == "Kubernetes: no pod is ready yet"
    cluster.say(type="Suspended")
    assert launcher.status(handle).reason == "Kubernetes: suspended (R: M)"
    cluster.run()
    assert launcher.status(handle).state == "running"
    monkeypatch.setattr(board, "FIRST_SIGN_SECONDS", -1)
    assert launcher.status(handle).state == "lost"
    cluster.say(type="Failed")
    assert (launcher.status(handle).exit_code, launcher.status(handle).reason) == (1, "R: M")
    (home / "ended.json").write_text(json.dumps({"code": 85, "reason": ""}))
    assert launcher._ask(handle).exit_code == 85
    cluster.jobs.clear()
    assert launcher._ask(handle).exit_code == 85
    (home / "ended.json").unlink()
    assert launcher._ask(handle).state == "lost"


def test_cancelled_its_nodes_are_asked_first_and_a_younger_job_is_not_touched(launcher, cluster, tmp_path):
    handle = submit(launcher, tmp_path)
    home = home_of(launcher, handle)
    (home / "node-0.json").write_text("{}")
    cluster.run()
    cluster.finalizers = 2
    [job] = cluster.jobs.values()
    launcher.cancel(handle, grace_seconds=0.05)
    assert not cluster.jobs
    assert not home.exists()
    cluster.jobs[kubernetes._name(KEY)] = {**job, "metadata": {**job["metadata"], "uid": "younger"}}
    del job["metadata"]["deletionTimestamp"]
    launcher.cancel(handle, grace_seconds=0)
    assert list(cluster.jobs) == [kubernetes._name(KEY)]


def test_logs_are_those_of_job_nodes_and_pods(launcher, tmp_path):
    handle = submit(launcher, tmp_path)
    (tmp_path / "job" / "worker.log").write_text("one\ntwo\n")
    (home_of(launcher, handle) / "worker-1.log").write_text("three\n")
    name = kubernetes._name(KEY)
    assert launcher.logs(handle, last=1) == ["two", "node 1: three", f"pod {name}-node-0-0-x1: ImportError: no module"]


def test_what_a_namespace_needs_has_the_schema():
    documents = {each["kind"]: each for each in yaml.safe_load_all((DOCKER / "lifecycle.yaml").read_text())}
    runtime = documents["TrainingRuntime"]
    has_the_schema(models.TrainerV1alpha1TrainingRuntime, runtime)
    assert runtime["metadata"]["name"] == KubernetesSettings().runtime
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    asked = {(rule["resources"][0], verb) for rule in documents["Role"]["rules"] for verb in rule["verbs"]}
    assert asked == {*(("trainjobs", verb) for verb in ("create", "get", "delete")), ("pods", "get"), ("pods", "list")}
    claimed = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claimed == documents["PersistentVolumeClaim"]["metadata"]["name"]


async def _rendered(template: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    from prefect.utilities.templating import apply_values
    from prefect.workers.base import BaseJobConfiguration

    defaults = BaseJobConfiguration._get_base_config_defaults(template["variables"]["properties"])
    return apply_values(template["job_configuration"], {**defaults, **values})


@pytest.mark.slow  # importing Prefect's server
def test_the_work_pool_of_flows_is_one_for_prefect_and_its_job_one_for_kubernetes():
    import asyncio

    from prefect.server.schemas.core import WorkPool

    template = json.loads((DOCKER / "work-pool.json").read_text())
    WorkPool(name="lifecycle-kubernetes", type="kubernetes", base_job_template=template)
    values = {"name": "run", "command": ["prefect", "flow-run", "execute"], "labels": {"a": "b"}, "image": "x@sha256:0"}
    job = asyncio.run(_rendered(template, values))["job_manifest"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"]) == ("x@sha256:0", {"LIFECYCLE_STORE": "/store"})
    # The worker turns the mapping into the list that Kubernetes wants.
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    has_the_schema(batch_v1.IoK8sApiBatchV1Job, job)
