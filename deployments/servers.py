"""PostgreSQL, a Prefect server and an MLflow server on this machine, from its own packages: what `make servers` runs.

    python deployments/servers.py start          all three, or those that are not up; waits until each one answers
    python deployments/servers.py status         exit code 0 when all are healthy
    python deployments/servers.py environment    what clients and workers export: eval "$(python ... environment)"
    python deployments/servers.py stop           the newest first; nothing is deleted

Everything lies in one folder (`--home`, .servers): databases, MLflow's files, logs, and passwords that were drawn there
and that only their owner can read. All three listen on loopback, ask for a password and answer no other origin.
"""

import argparse
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from postgres import Postgres, PostgresError
from processes import born, end, free_port, taken

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS, STOP_SECONDS = 180, 20
NAMES = ("postgres", "prefect", "mlflow")
PORTS = {"postgres": 5433, "prefect": 4200, "mlflow": 5000}
DATABASES = ("prefect", "mlflow", "mlflow_users")
USER = "lifecycle"
SILENT = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


class ServersError(Exception):
    """What was expected of a server, what was found, and what to do."""


@dataclass(frozen=True)
class Servers:
    """Three servers that keep all they have in one folder."""

    home: Path
    ports: Mapping[str, int]

    @classmethod
    def at(cls, home: Path, ports: Mapping[str, int | None]) -> "Servers":
        """Those of a folder: on the ports they had, on the ones asked for when it is new; 0 is any free one."""
        file = home / "ports.json"
        known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        for name in NAMES:
            asked = ports.get(name)
            if name in known and asked not in (None, known[name]):
                raise ServersError(
                    f"expected {name} on port {known[name]}, where {home} has it, found --{name}-port {asked}. "
                    "Leave the option out, or give another --home."
                )
            known.setdefault(name, free_port() if asked == 0 else asked or PORTS[name])
        home.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1) + "\n")
        return cls(home, known)

    def url(self, name: str) -> str:
        """Where a server answers."""
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def postgres(self) -> Postgres:
        """The cluster that the other two keep their tables in."""
        return Postgres(
            self.home / "postgres", port=self.ports["postgres"], user=USER, password_file=self._password_file()
        )

    def start(self) -> None:
        """Start what is not up, each when the one before it answers; ServersError with a log's end when one cannot."""
        (self.home / "log").mkdir(exist_ok=True)
        for name in NAMES:
            begun = time.monotonic()
            # One that lives may be too busy to answer, and a second would find its port taken; or it is just ending.
            if self.process(name) is None or not self._wait_for(name, may_end=True):
                if name == "postgres":
                    self._end("prefect")  # services of it that asked just then are dead, and it does not say so
                self._port_is_free(name)
                self._start(name)
                self._wait_for(name)
            if name == "postgres":
                for database in DATABASES:  # a start that was cut short may have left none
                    self.postgres.create(database)
            print(f"{name:9} is up ({time.monotonic() - begun:.0f} s)", flush=True)

    def stop(self) -> None:
        """Stop them, the last started first, and leave no process of theirs."""
        for name in reversed(NAMES):
            self._end(name)

    def _end(self, name: str) -> None:
        if process := self.process(name):
            # SIGINT: PostgreSQL does not wait for its clients.
            end(process, signal.SIGINT if name == "postgres" else signal.SIGTERM, seconds=STOP_SECONDS)
            print(f"{name:9} is down")
        self._pid_file(name).unlink(missing_ok=True)

    def is_healthy(self, name: str) -> bool:
        """Whether a process of ours is there and answers."""
        return self.process(name) is not None and self._answers(name)

    def process(self, name: str) -> int | None:
        """The process id of a server, if it is the one we started: ids are given out again."""
        try:
            pid, then = self._pid_file(name).read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if born(int(pid)) == then else None

    def environment(self) -> dict[str, str]:
        """What makes a client or a worker speak to these servers."""
        return {
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
            "PREFECT_API_AUTH_STRING": f"{USER}:{self._secret('prefect')}",
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self._secret("mlflow"),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # what the automation for dead runs listens for
            **SILENT,
        }

    def _start(self, name: str) -> None:
        command, environment = {
            "postgres": lambda: (self.postgres.command(self._secret("postgres")), {}),
            "prefect": self._prefect,
            "mlflow": self._mlflow,
        }[name]()
        passwords = str(self._password_file())
        with (self.home / "log" / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                command,
                env={**_without_clients(os.environ), **SILENT, "PGPASSFILE": passwords, **environment},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file(name).write_text(f"{process.pid} {born(process.pid)}")

    def _wait_for(self, name: str, *, may_end: bool = False) -> bool:
        """Return once it answers, or with False if it ends before and may; ServersError with the end of its log when it
        may not, or takes too long."""
        log, deadline = self.home / "log" / f"{name}.log", time.monotonic() + START_SECONDS
        while not self._answers(name):
            lives = self.process(name) is not None
            if not lives and may_end:
                return False
            if not lives or time.monotonic() > deadline:
                tail = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
                raise ServersError(
                    f"expected {name} to answer on port {self.ports[name]} within {START_SECONDS} s, found "
                    f"{'silence' if lives else 'that it ended'}. {log} ends:\n{tail}"
                )
            time.sleep(0.2)
        return True

    def _prefect(self) -> tuple[list[str], dict[str, str]]:
        port = self.ports["prefect"]
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        return command, {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.postgres.url("postgresql+asyncpg", "prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{self._secret('prefect')}",
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.url("prefect"),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_UI_API_URL": f"{self.url('prefect')}/api",
            # A slot that is held must still be held after this server was restarted. They are files below PREFECT_HOME.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }

    def _mlflow(self) -> tuple[list[str], dict[str, str]]:
        port, files = self.ports["mlflow"], self.home / "mlflow"
        files.mkdir(exist_ok=True)
        settings = files / "auth.ini"
        settings.write_text(
            "[mlflow]\n"
            "default_permission = NO_PERMISSIONS\n"
            f"database_uri = {self.postgres.url('postgresql+psycopg2', 'mlflow_users')}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Else each request hashes the password: 1.3 s, not 0.08 s, on a busy machine. An old one may hold a minute.
            "auth_cache_ttl_seconds = 60\n"
        )
        here = f"127.0.0.1:{port},localhost:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", "2", "--serve-artifacts", "--allowed-hosts", here]
        command += ["--artifacts-destination", str(files / "artifacts"), "--cors-allowed-origins", self.url("mlflow")]
        return command, {
            # Not on the command line, nor its password.
            "MLFLOW_BACKEND_STORE_URI": self.postgres.url("postgresql+psycopg2", "mlflow"),
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_USERNAME": USER,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self._secret("mlflow"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self._secret("mlflow_session"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }

    def _answers(self, name: str) -> bool:
        if name == "postgres":
            return self.postgres.answers()
        try:
            path = "/api/health" if name == "prefect" else "/health"
            urllib.request.urlopen(self.url(name) + path, timeout=5).close()
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _password_file(self) -> Path:
        line = f"127.0.0.1:{self.ports['postgres']}:*:{USER}:{self._secret('postgres')}\n"
        return _private(self.home / "secrets" / "pgpass", line)

    def _secret(self, name: str) -> str:
        """The password of that name, drawn when it is first asked for."""
        file = self.home / "secrets" / name
        if not file.exists():
            _private(file, secrets.token_urlsafe(32))
        return file.read_text()

    def _pid_file(self, name: str) -> Path:
        return self.home / f"{name}.pid"

    def _port_is_free(self, name: str) -> None:
        """Return once it is: what is just ending gets a moment to let go of it."""
        deadline = time.monotonic() + 5
        while (error := taken(self.ports[name])) is not None:
            if time.monotonic() > deadline:
                raise ServersError(
                    f"expected port {self.ports[name]} to be free for {name}, found it taken ({error}). Stop what "
                    f"listens there, or choose --{name}-port with a new --home."
                ) from error
            time.sleep(0.2)


def _without_clients(environment: Mapping[str, str]) -> dict[str, str]:
    """What a server inherits: nothing that was meant for a client of some other server."""
    return {name: value for name, value in environment.items() if not name.startswith(("PREFECT_", "MLFLOW_", "PG"))}


def _private(file: Path, text: str) -> Path:
    """Write a file that nobody else can read, from its first byte on."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    return file


def _started(servers: Servers) -> int:
    servers.start()
    for name, title in (("prefect", "Prefect"), ("mlflow", "MLflow")):
        print(f"{title:9} {servers.url(name)}   user {USER}, password in {servers.home / 'secrets' / name}")
    return 0


def _stopped(servers: Servers) -> int:
    servers.stop()
    return 0


def _status(servers: Servers) -> int:
    healthy = {name: servers.is_healthy(name) for name in NAMES}
    for name, up in healthy.items():
        print(f"{name:9} port {servers.ports[name]:<6} {'up' if up else 'down'}")
    return 0 if all(healthy.values()) else 1


def _environment(servers: Servers) -> int:
    for name, value in servers.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


ACTIONS = {"start": _started, "status": _status, "environment": _environment, "stop": _stopped}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--home", type=Path, default=ROOT / ".servers", metavar="DIR")
    for name in NAMES:
        parser.add_argument(f"--{name}-port", type=int, metavar="PORT", help=f"default {PORTS[name]}; 0: any free one")
    options = parser.parse_args(arguments)
    try:
        servers = Servers.at(options.home.absolute(), {name: getattr(options, f"{name}_port") for name in NAMES})
        return ACTIONS[options.action](servers)
    except (ServersError, PostgresError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
