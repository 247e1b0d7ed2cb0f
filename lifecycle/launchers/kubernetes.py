"""Jobs under Kubernetes: a TrainJob of Kubeflow, with one supervisor (`workers.node`) in each pod.

The TrainJob's name is made of the job's key, so one that exists is the job, not an error: a create that conflicts
attaches. The runtime it names (`docker/kubernetes/lifecycle.yaml`) mounts the store at the path it has here. How a job
ended say its own nodes, in a file in the store; the cluster says whether it is there.
"""

import shutil
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.errors import WorkerFailed
from lifecycle.launchers.board import HEARD_FROM_AFAR, Board
from lifecycle.launchers.environment import worker_settings
from lifecycle.launchers.kubernetes_api import Api
from lifecycle.launchers.local import ended
from lifecycle.launchers.shape import Call, Handle, Resources, Status
from lifecycle.sealing import short_digest

GROUP = "trainer.kubeflow.org"
HOME = "llm-lifecycle/home"  # the annotation that says where a job's call lies
POLL_SECONDS = 0.5
ASK_SECONDS = 5.0
"""Between two questions to a server that everybody shares; a second where our own files say it is over."""
GONE_SECONDS = 120.0
"""A deleted job is there until its pods have had their grace."""
LONGEST_NAME = 48
"""Of 63: JobSet makes the host names of pods out of it, `<name>-node-0-511`."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[kMGTP]i?)?$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]

START = 'exec "$LIFECYCLE_PYTHON" -m lifecycle.workers.node "$PPID" "$LIFECYCLE_CALL" "${JOB_COMPLETION_INDEX:-0}"'


class KubernetesSettings(BaseModel):
    """What is asked of the cluster. Volumes, image and security are its runtime's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    server: str | None = Field(
        None, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/?$", description="Default: the cluster this runs in."
    )
    namespace: Name | None = Field(None, description="Default: that of the service account.")
    runtime: Name = "lifecycle"
    runtime_kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"] = "TrainingRuntime"
    image: str | None = Field(
        None, pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,499}$", description="Default: the runtime's; pin it by digest."
    )
    python: str = Field("python", pattern=r"^[A-Za-z0-9._/-]+$", description="Of the image.")
    queue: Name | None = Field(None, description="A queue of Kueue, which holds the job until there is room.")
    resources: dict[Annotated[str, Field(pattern=r"^[a-z0-9./-]{1,100}$")], Quantity] = Field(
        default_factory=dict, description="Of each pod, requested and limited: cpu, memory, nvidia.com/gpu."
    )
    environment: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")], Line] = Field(
        default_factory=dict, description="For the ranks. Whoever may read the TrainJob reads it: no secrets."
    )


class Kubernetes:
    """A launcher (see `shape.Launcher`). `board` is a folder of the store, which the pods mount at the same path."""

    def __init__(self, board: Path, settings: KubernetesSettings, *, api: Api | None = None) -> None:
        self.board, self.settings = Board(board), settings
        self.api = api or Api(settings.server)
        namespace = settings.namespace or self.api.namespace()
        self.jobs = f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/trainjobs"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self._heard: dict[str, tuple[float, Status]] = {}

    def submit(self, worker: str, folder: Path, key: str, resources: Resources) -> Handle:
        """Create the TrainJob; where one of its name is there and not over, that one."""
        call, home = self.board.post(worker, folder, key, resources)
        handle: Handle | None = None
        deadline = time.monotonic() + GONE_SECONDS
        try:
            while handle is None:
                created = self.api.ask("POST", self.jobs, train_job(call, home, self.settings))
                if created.status == 201:
                    handle = _handle(key, created.json)
                elif (handle := self.reattach(key)) is None:
                    self._make_way(key, deadline)
        finally:
            if handle is None or self._home(handle) != home:
                shutil.rmtree(home, ignore_errors=True)
        return handle

    def status(self, handle: Handle) -> Status:
        """What the cluster says, asked every five seconds; how it ended say its own nodes, where they could."""
        over = (self._home(handle) / "ended.json").exists()
        asked, status = self._heard.get(handle.id, (-ASK_SECONDS, Status(state="waiting", reason="Kubernetes")))
        if time.monotonic() - asked > (1.0 if over else ASK_SECONDS):
            status = self._ask(handle)
            self._heard[handle.id] = time.monotonic(), status
        return status

    def logs(self, handle: Handle, *, last: int) -> list[str]:
        """The last lines of the job, of its other nodes, and of its pods: those say why nothing could begin."""
        lines = self.board.logs(self._home(handle), last)
        found = self.api.ask("GET", self.pods, labelSelector=f"jobset.sigs.k8s.io/jobset-name={_part(handle, 0)}")
        for pod in found.json.get("items", []) if found.status == 200 else []:
            name = pod["metadata"]["name"]
            said = self.api.ask("GET", f"{self.pods}/{name}/log", tailLines=str(last))
            text = said.body.decode("utf-8", "replace") if said.status == 200 else ""
            lines += [f"pod {name}: {line}" for line in text.splitlines()]
        return lines

    def cancel(self, handle: Handle, *, grace_seconds: float) -> None:
        """Ask every node to stop and wait; then delete the job and wait until its pods are gone."""
        home = self._home(handle)
        if (home / "node-0.json").exists():  # it has begun
            (home / "stop").touch()
            deadline = time.monotonic() + grace_seconds
            while self._ask(handle).state in ("waiting", "running") and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        self._delete(_part(handle, 0), _part(handle, 2), time.monotonic() + GONE_SECONDS)
        self._heard.pop(handle.id, None)
        shutil.rmtree(home, ignore_errors=True)

    def reattach(self, key: str) -> Handle | None:
        """The TrainJob of this key, when it is neither over nor on its way out. WorkerFailed when it is not ours."""
        found = self.api.ask("GET", f"{self.jobs}/{_name(key)}")
        if found.status != 200 or _is_over(found.json):
            return None
        handle = _handle(key, found.json)
        if not self.board.has(_part(handle, 1)):
            raise WorkerFailed(
                f"expected TrainJob {_name(key)} to have its call in {self.board.folder}, found none: it is somebody "
                f"else's, or its folder is gone. If nobody needs it: `kubectl delete trainjob {_name(key)}`."
            )
        return handle

    def _home(self, handle: Handle) -> Path:
        return self.board.folder / Path(_part(handle, 1)).name

    def _ask(self, handle: Handle) -> Status:
        found = self.api.ask("GET", f"{self.jobs}/{_part(handle, 0)}")
        job = found.json if found.status == 200 else {}
        home = self._home(handle)
        said = (home / "ended.json").exists()
        if not job or job["metadata"].get("uid", "") != _part(handle, 2):
            return ended(home, 1) if said else Status(state="lost", reason="its TrainJob was deleted")
        conditions = _conditions(job)
        if "Complete" in conditions or "Failed" in conditions:
            status = ended(home, 0 if "Complete" in conditions else 1)
            return status if said else status.model_copy(update={"reason": conditions.get("Failed", "")})
        runs = any(each.get("ready") for each in job.get("status", {}).get("jobsStatus", []))
        if lost := self.board.lost(home, runs=runs):
            return Status(state="lost", reason=f"{lost} (TrainJob {_part(handle, 0)})")
        if "Suspended" in conditions:
            return Status(state="waiting", reason=f"Kubernetes: suspended ({conditions['Suspended']})")
        waits_for = self.board.waits_for(home) if runs else "Kubernetes: no pod is ready yet"
        return Status(state="waiting" if waits_for else "running", reason=waits_for)

    def _make_way(self, key: str, deadline: float) -> None:
        """Remove a job of this name that is over, so that a new one can have it."""
        found = self.api.ask("GET", f"{self.jobs}/{_name(key)}")
        if found.status == 200:
            self._delete(_name(key), found.json["metadata"].get("uid", ""), deadline)

    def _delete(self, name: str, uid: str, deadline: float) -> None:
        """Delete exactly this job, never a younger one of its name, and wait until it is gone."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        if self.api.ask("DELETE", f"{self.jobs}/{name}", options).status in (404, 409):
            return
        while True:
            found = self.api.ask("GET", f"{self.jobs}/{name}")
            if found.status == 404 or found.json["metadata"].get("uid", "") != uid:
                return
            if time.monotonic() > deadline:
                raise WorkerFailed(
                    f"expected TrainJob {name} to be gone {GONE_SECONDS:.0f} s after it was deleted, found it still "
                    f"there. Look at `kubectl describe trainjob {name}`: a finalizer or a pod holds it."
                )
            time.sleep(POLL_SECONDS)


def train_job(call: Call, home: Path, settings: KubernetesSettings) -> dict[str, Any]:
    """The TrainJob (trainer.kubeflow.org/v1alpha1) of a call. Each pod finds its number in JOB_COMPLETION_INDEX."""
    variables = {
        **worker_settings(call.threads),
        **HEARD_FROM_AFAR,
        **settings.environment,
        "LIFECYCLE_PYTHON": settings.python,
        "LIFECYCLE_CALL": str(home.absolute()),
    }
    # Kubernetes expands $(NAME) in values, and reads $$ as $.
    env: list[dict[str, Any]] = [{"name": name, "value": v.replace("$", "$$")} for name, v in variables.items()]
    env.append({"name": "LIFECYCLE_NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    trainer: dict[str, Any] = {"numNodes": call.nodes, "command": ["/bin/sh", "-c", START], "env": env}
    if settings.image:
        trainer["image"] = settings.image
    if settings.resources:
        trainer["resourcesPerNode"] = {"requests": dict(settings.resources), "limits": dict(settings.resources)}
    queue = {"kueue.x-k8s.io/queue-name": settings.queue} if settings.queue else {}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": _name(call.key),
            "labels": {"app.kubernetes.io/managed-by": "llm-lifecycle", **queue},
            "annotations": {HOME: home.name},
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": settings.runtime_kind, "name": settings.runtime},
            "trainer": trainer,
        },
    }


def _name(key: str) -> str:
    """The key as a name that leaves room for what is made of it; it begins with a letter, as a host name must."""
    name = key if key[:1].isalpha() else f"job-{key}"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9].rstrip('-')}-{short_digest(key)}"


def _handle(key: str, job: dict[str, Any]) -> Handle:
    about = job["metadata"]
    home = about.get("annotations", {}).get(HOME, "none")
    return Handle(key=key, id=f"{about['name']}:{home}:{about.get('uid', '')}")


def _part(handle: Handle, number: int) -> str:
    """Of a handle's id: the TrainJob's name, the folder of its call, its uid."""
    return handle.id.split(":")[number]


def _conditions(job: dict[str, Any]) -> dict[str, str]:
    """What is true of a job, and why."""
    found = job.get("status", {}).get("conditions", [])
    said = {
        each["type"]: f"{each.get('reason', '')}: {each.get('message', '')}"
        for each in found
        if each["status"] == "True"
    }
    return {kind: why[:500] for kind, why in said.items()}


def _is_over(job: dict[str, Any]) -> bool:
    return "deletionTimestamp" in job["metadata"] or not _conditions(job).keys().isdisjoint({"Complete", "Failed"})
