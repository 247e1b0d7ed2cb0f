"""The few words a launcher exchanges with a Kubernetes API server: plain HTTPS with the pod's own service account.

Only the standard library: a client of some megabytes for five routes would be the larger risk.
"""

import contextlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from lifecycle.errors import ConfigError, WorkerFailed

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_SECONDS = 30
LARGEST_ANSWER = 16 * 2**20
ATTEMPTS, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 6, 0.5, 30.0  # doubled each time: 15 s in all
PASSING = (408, 429, 500, 502, 503, 504)
"""What another attempt may mend: too slow, too often, a server that is being rolled."""
EXPECTED = (200, 201, 202, 404, 409)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answer:
    """A status that its caller has an opinion on, and what came with it."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))


class Api:
    """An API server, and who we are there."""

    def __init__(self, server: str | None, *, account: Path = ACCOUNT) -> None:
        """`server` is what `kubectl proxy` offers; None: the cluster that this process runs in."""
        self.account = account
        self.server = server.rstrip("/") if server else _in_cluster()
        secure = self.server.startswith("https://")
        if not secure and urlsplit(self.server).hostname not in LOOPBACK:
            raise ConfigError(
                f"expected an API server behind https://, or a proxy on loopback, found {self.server!r}. A token is "
                "never sent in the clear."
            )
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if secure:
            authority = account / "ca.crt"
            context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._open = urllib.request.build_opener(*handlers).open

    def namespace(self) -> str:
        """The one this pod lives in; `default` outside of a cluster."""
        with contextlib.suppress(OSError):
            return (self.account / "namespace").read_text().strip()
        return "default"

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Answer:
        """An answer that says something: done, not there, or in conflict. Tried again where that may help.

        A request that broke off may have been carried out: asked again, it is a conflict, which is an answer.
        """
        wait, said = FIRST_WAIT_SECONDS, ""
        for attempt in range(1, ATTEMPTS + 1):
            answer, said, hint = self._once(method, path, body, query)
            if answer is not None and answer.status in EXPECTED:
                return answer
            if answer is not None and answer.status not in (*PASSING, 401):
                _refused(answer, method, path)
            if answer is not None and answer.status == 401 and attempt > 1:  # once more: tokens are replaced hourly
                _refused(answer, method, path)
            if attempt < ATTEMPTS:
                time.sleep(min(hint or wait, LONGEST_WAIT_SECONDS))
                wait *= 2
        raise WorkerFailed(f"{self.server}{path}: expected an answer, found in {ATTEMPTS} attempts: {said}.")

    def _once(
        self, method: str, path: str, body: dict[str, Any] | None, query: dict[str, str]
    ) -> tuple[Answer | None, str, float]:
        """One attempt: its answer if there was one, in words, and when the server wants to be asked again."""
        request = urllib.request.Request(
            self.server + path + (f"?{urlencode(query)}" if query else ""),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json, */*", "Content-Type": "application/json", **self._token()},
        )
        try:
            with self._open(request, timeout=ANSWER_SECONDS) as there:
                return Answer(there.status, there.read(LARGEST_ANSWER)), "", 0.0
        except urllib.error.HTTPError as error:
            hint = error.headers.get("Retry-After", "")
            answer = Answer(error.code, error.read(LARGEST_ANSWER))
            return answer, f"status {error.code}", float(hint) if hint.isdecimal() else 0.0
        except (OSError, HTTPException) as error:
            return None, f"{type(error).__name__}: {error}", 0.0

    def _token(self) -> dict[str, str]:
        """Read for each request: the kubelet replaces the file before the token in it expires."""
        try:
            return {"Authorization": f"Bearer {(self.account / 'token').read_text().strip()}"}
        except OSError:
            return {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to wherever it points."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _in_cluster() -> str:
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise ConfigError(
            "expected to run in a pod, found no KUBERNETES_SERVICE_HOST. Start the flow in the cluster, or run "
            "`kubectl proxy` and set kubernetes.server=http://127.0.0.1:8001."
        ) from error
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _refused(answer: Answer, method: str, path: str) -> NoReturn:
    try:
        message = str(answer.json.get("message", ""))[:500]
    except ValueError:
        message = answer.body[:200].decode("utf-8", "replace")
    what = f"{method} {path} was answered with {answer.status}: {message!r}"
    if answer.status in (401, 403):
        raise ConfigError(
            f"expected a service account that may do this, found that {what}. docker/kubernetes/lifecycle.yaml has the "
            "role it needs."
        )
    raise ConfigError(f"expected a request that the cluster accepts, found that {what}.")
