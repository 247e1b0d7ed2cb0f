"""An API server that speaks the few routes a launcher uses: TrainJobs by name, pods by label, their logs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/training/trainjobs"
PODS = "/api/v1/namespaces/training/pods"
TOKEN = "token-of-the-account"


class Cluster:
    """What it holds, and what it was asked."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.faults: list[int] = []
        """Statuses of the next answers, whatever is asked; 0 breaks the connection after a request was carried out."""
        self.finalizers = 0
        """How many times a deleted job is still found."""
        self._born = 0

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        if path.startswith(PODS):
            return self._pods(path, query)
        name = path.removeprefix(JOBS).strip("/")
        if method == "POST":
            return self._create(body)
        job = self.jobs.get(name)
        if job is None or (method == "GET" and self._is_gone(name, job)):
            return 404, {"message": f'trainjobs "{name}" not found'}
        if method == "DELETE":
            if body["preconditions"]["uid"] != job["metadata"]["uid"]:
                return 409, {"message": "the UID in the precondition does not match"}
            assert body["propagationPolicy"] == "Foreground"
            job["metadata"]["deletionTimestamp"] = "2026-11-23T19:00:00Z"
        return 200, job

    def say(self, **condition: str) -> None:
        """Set a condition of the only job."""
        [job] = self.jobs.values()
        job["status"] = {"conditions": [{"status": "True", "reason": "R", "message": "M", **condition}]}

    def run(self) -> None:
        """Have the pods of the only job become ready."""
        [job] = self.jobs.values()
        job["status"] = {"jobsStatus": [{"name": "node", "ready": 1, "succeeded": 0, "failed": 0}]}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, {"reason": "AlreadyExists", "message": f'trainjobs "{name}" already exists'}
        self._born += 1
        self.jobs[name] = {**body, "metadata": {**body["metadata"], "uid": f"uid-{self._born}"}}
        return 201, self.jobs[name]

    def _is_gone(self, name: str, job: dict[str, Any]) -> bool:
        if "deletionTimestamp" not in job["metadata"]:
            return False
        self.finalizers -= 1
        if self.finalizers < 0:
            del self.jobs[name]
        return self.finalizers < 0

    def _pods(self, path: str, query: str) -> tuple[int, Any]:
        if path.endswith("/log"):
            return 200, "ImportError: no module\n"
        label = query.removeprefix("labelSelector=jobset.sigs.k8s.io%2Fjobset-name%3D")
        return 200, {"items": [{"metadata": {"name": f"{label}-node-0-0-x1"}}] if label in self.jobs else []}


@contextmanager
def api_server(cluster: Cluster) -> Iterator[str]:
    """Its address, while it answers."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            cluster.asked.append((self.command, self.path))
            status, answer = 401, {"message": "Unauthorized"}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                fault = cluster.faults.pop(0) if cluster.faults else None
                status, answer = (
                    (fault, {"message": "injected"}) if fault else cluster.answer(self.command, self.path, body)
                )
                if fault == 0:
                    self.close_connection = True
                    return
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _do  # noqa: N815  # the base class wants these names

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
