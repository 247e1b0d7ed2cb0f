"""A hub of data sets on loopback, for the hub's real client: the few requests that streaming makes, with ranges."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Serves `root/<owner>/<name>` as data sets, each of them at one revision only."""

    def __init__(self, root: Path, revision: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.revision = root, revision


@contextmanager
def hub(root: Path, revision: str) -> Iterator[str]:
    """The endpoint of such a hub, while it runs."""
    with Hub(root, revision) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Answers GET, HEAD and POST as the hub does, as far as its client looks."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        match unquote(urlsplit(self.path).path).strip("/").split("/"):
            case ["api", "datasets", owner, name, *_] | ["datasets", owner, name, *_] if not self._below(owner, name):
                self._missing("RepoNotFound")
            case ["api", "datasets", owner, name, "revision", self.server.revision]:
                self._json({"id": f"{owner}/{name}", "sha": self.server.revision, "siblings": []})
            case ["api", "datasets", owner, name, "tree", self.server.revision, *below]:
                self._json([self._entry(path, f"{owner}/{name}") for path in self._below(owner, name, *below)])
            case ["datasets", owner, name, "resolve", self.server.revision, *below]:
                self._file(self.server.root.joinpath(owner, name, *below))
            case ["datasets", _, _, "resolve", *_] | ["api", "datasets", _, _, "revision", *_]:
                self._missing("RevisionNotFound")
            case _:
                self._missing("EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _below(self, *names: str) -> list[Path]:
        folder = self.server.root.joinpath(*names)
        return sorted(folder.rglob("*") if "recursive=true" in self.path.lower() else folder.glob("*"))

    def _entry(self, path: Path, repository: str) -> dict[str, object]:
        name = path.relative_to(self.server.root / repository).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        content = path.read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        content = path.read_bytes()
        begin, end, status = 0, len(content), 200
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(len(content), int(last or len(content)) + 1), 206
        self.send_response(status)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.revision)
        self._body(content[begin:end])

    def _json(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._body(json.dumps(value).encode())

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", self.server.revision)
        self._body(b"{}")

    def _body(self, content: bytes) -> None:
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not what a test is about."""
