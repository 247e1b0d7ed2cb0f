"""A Prefect server for the length of one command, when no PREFECT_API_URL names a real one.

Started before Prefect is imported, so that both load at once (4 s together, 12 s when the database is new), and
through the guard, so that it dies with the flow even by kill -9: Prefect's own temporary server would survive that.
"""

import atexit
import fcntl
import os
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from lifecycle.errors import LifecycleError

START_SECONDS = 120
STOP_SECONDS = 5

# Read by Prefect when it is imported: no telemetry; nothing on the console that the display does not say better
# (the API keeps every log line); a temporary server's slow start on a busy machine is not an error.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_SECONDS),
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_CLI_PROMPT": "false",
}


class TemporaryServer:
    """A Prefect server on a loopback port, with its database in the store. Use `wait` before the first flow."""

    def __init__(self, store: Path) -> None:
        self._home, self._lock = _free_home(store)
        self._log = self._home / "server.log"
        password = f"lifecycle:{secrets.token_urlsafe(24)}"
        with socket.socket() as listening:  # bound here and handed over: no second process can take the port in between
            listening.bind(("127.0.0.1", 0))
            listening.listen(64)
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            os.environ["PREFECT_HOME"] = str(self._home)
            os.environ["PREFECT_API_URL"] = self.url
            os.environ["PREFECT_API_AUTH_STRING"] = password  # any page in a browser could drive a server without one
            self._process = self._start(listening.fileno(), password)
        # Registered before Prefect is imported, so it runs after Prefect has sent its last logs and events.
        atexit.register(self.stop)

    def wait(self) -> None:
        """Return once the server answers; LifecycleError with the end of its log when it cannot start."""
        try:
            # The connection waits in the socket's queue until the server takes it: no polling.
            urllib.request.urlopen(f"{self.url}/health", timeout=START_SECONDS).close()
        except (OSError, urllib.error.URLError) as error:
            tail = "\n".join(f"    {line}" for line in self._log.read_text(errors="replace").splitlines()[-15:])
            raise LifecycleError(
                f"expected a temporary Prefect server at {self.url}, found: {error}. {self._log} ends:\n{tail}\n"
                f"If its database is from another Prefect version, remove {self._home}: it holds no artifact."
            ) from error

    def stop(self) -> None:
        """Let it write what it holds, then make sure that it is gone."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lock.close()

    def _start(self, socket_number: int, password: str) -> "subprocess.Popen[bytes]":
        # What SubprocessASGIServer runs (prefect/server/api/server.py, 3.8), behind the guard and with a password.
        guard = [sys.executable, "-m", "lifecycle.workers.guard", str(os.getpid())]
        application = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        options = ["--fd", str(socket_number), "--log-level", "error", "--lifespan", "on"]
        own = {
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_AUTH_STRING": password,
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.url.removesuffix("/api"),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        }
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [*guard, *application, *options],
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[socket_number],
                start_new_session=True,  # Ctrl-C is for the flow: the server has to hear how it ended
            )


def prepare(store: Path) -> TemporaryServer | None:
    """Set the environment Prefect reads, and start a server unless there is one."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return None if os.environ.get("PREFECT_API_URL") else TemporaryServer(store)


def _free_home(store: Path) -> tuple[Path, IO[bytes]]:
    """A folder for Prefect's database that no other run is using now: sqlite is for one server at a time."""
    number = 1
    while True:
        home = store / ("prefect" if number == 1 else f"prefect-{number}")
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "in-use.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
        else:
            return home, lock
