"""A PostgreSQL cluster in a folder of its own, with passwords even on loopback, from the machine's own programs."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ACCOUNT = "postgres"
"""Who runs it where we are root: PostgreSQL refuses to run as root."""


class PostgresError(Exception):
    """What was expected of PostgreSQL, what was found, and what to do."""


class Postgres:
    """One cluster: `user` owns it, and whoever has `password_file` (libpq's format) may ask it."""

    def __init__(self, folder: Path, *, port: int, user: str, password_file: Path) -> None:
        self.folder, self.port, self.user, self.password_file = folder, port, user, password_file
        self.data, self.socket = folder / "data", folder / "socket"

    def command(self, password: str) -> list[str]:
        """What to start, the cluster made when there is none."""
        become = _not_root(self.folder)
        if not (self.data / "PG_VERSION").exists():
            shutil.rmtree(self.data, ignore_errors=True)  # an initdb that was killed: without its version it is none
            self._make(password, become)
        at = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.socket)]
        return [*become, str(programs() / "postgres"), "-D", str(self.data), *at]

    def answers(self) -> bool:
        """Whether it takes connections."""
        ready = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def create(self, database: str) -> None:
        """Create a database unless it is there."""
        if not self._ask("-tAc", f"SELECT 1 FROM pg_database WHERE datname = '{database}'").strip():
            self._ask("-c", f"CREATE DATABASE {database}")

    def url(self, driver: str, database: str) -> str:
        """Where a database is, without a password: libpq and asyncpg read it from PGPASSFILE."""
        return f"{driver}://{self.user}@127.0.0.1:{self.port}/{database}"

    def _make(self, password: str, become: Sequence[str]) -> None:
        self.socket.mkdir(parents=True, exist_ok=True)
        file = self.folder / "password"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(f"{password}\n")
        if become:
            for path in (self.folder, self.socket, file):
                shutil.chown(path, ACCOUNT)
        options = ["--username", self.user, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"]
        made = subprocess.run(
            [*become, str(programs() / "initdb"), "-D", str(self.data), *options, f"--pwfile={file}"],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        file.unlink()
        if made.returncode:
            raise PostgresError(f"expected initdb to make {self.data}, found: {made.stderr.strip()}")

    def _ask(self, *arguments: str) -> str:
        at = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", "postgres", "-v", "ON_ERROR_STOP=1"]
        asked = subprocess.run(
            [str(programs() / "psql"), *at, *arguments],
            env={**os.environ, "PGPASSFILE": str(self.password_file)},
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode:
            raise PostgresError(f"expected {arguments[-1]!r} to work, found: {asked.stderr.strip()}")
        return asked.stdout


def programs() -> Path:
    """The folder of PostgreSQL's programs: Debian keeps them out of PATH, one folder a version."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if not versions:
        raise PostgresError(
            "expected PostgreSQL's programs in PATH or /usr/lib/postgresql, found none. Install them: apt-get install "
            "postgresql; or start the servers from docker/compose.yaml."
        )
    return versions[-1].parent


def _not_root(folder: Path) -> Sequence[str]:
    """How to start it as somebody else where we are root; as anybody else there is nothing to do."""
    if os.geteuid() != 0:
        return ()
    account = pwd.getpwnam(ACCOUNT)
    closed = [str(above) for above in folder.parents if not above.stat().st_mode & 0o001]
    if closed:
        raise PostgresError(
            f"expected a --home that the account {ACCOUNT!r} can reach, since PostgreSQL refuses to run as root; found "
            f"{', '.join(closed)} closed to it. Give another --home, or run as another user than root."
        )
    return ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
