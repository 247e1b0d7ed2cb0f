"""Files behind a URL: the bytes that were pinned or none, from a real S3 server and a real HTTP server on loopback."""

import gzip
import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle.data.documents import Source
from lifecycle.data.sources import remote
from lifecycle.data.sources.places import Remote, RemoteList
from lifecycle.data.sources.shards import read_shard, shards_of
from lifecycle.errors import ConfigError, InputError
from lifecycle.sealing import canonical

CONTENT = gzip.compress(b"".join(b'{"id": "%d", "text": "fine"}\n' % n for n in range(2_000)), mtime=0)


def pinned(url: str, content: bytes = CONTENT) -> Source:
    return Source(name="sea", path=Remote(url=url, sha256=hashlib.sha256(content).hexdigest()), licence="CC0-1.0")


def read(source: Source, scratch=None) -> list:
    return [found for shard in shards_of(source) for found in read_shard(shard, scratch=scratch)]


class Web(ThreadingHTTPServer):
    """A server of CONTENT that breaks off in the middle as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks, self.requests, self.url = 0, 0, f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        if self.path != "/sea.jsonl.gz":
            self.server.requests += 1
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.requests += 1
        if self.server.requests <= self.server.breaks:
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(CONTENT)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are counted instead."""


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT_SECONDS", 0.0)
    with Web() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def s3():
    """A bucket on a real S3 server; address and keys are in the environment, as they are for a user."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="sea")
        yield client
    server.stop()


def test_a_file_on_s3_is_read_with_keys_from_the_environment_and_leaves_nothing_behind(s3, tmp_path):
    s3.put_object(Bucket="sea", Key="a/rows.jsonl.gz", Body=CONTENT)
    source = pinned("s3://sea/a/rows.jsonl.gz")
    documents = read(source, tmp_path / "scratch")
    assert (len(documents), documents[-1]) == (2_000, ("sea", "1999", "fine"))
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "hunter2" not in repr((canonical(source), shards_of(source)))


def test_bytes_that_differ_from_the_pin_are_refused_before_any_row_is_read(s3):
    s3.put_object(Bucket="sea", Key="changed.jsonl.gz", Body=CONTENT[:-1] + b"!")
    shards = shards_of(pinned("s3://sea/changed.jsonl.gz"))
    with pytest.raises(InputError) as refused:
        next(read_shard(shards[0]))
    for digest in (CONTENT, CONTENT[:-1] + b"!"):
        assert hashlib.sha256(digest).hexdigest() in str(refused.value)


def test_a_missing_object_is_refused_at_once(s3):
    with pytest.raises(InputError, match=r"s3://sea/none.jsonl: expected to read it, found in attempt 1 of 5: FileNot"):
        read(pinned("s3://sea/none.jsonl"))


def test_a_list_of_pins_is_a_shard_a_file_and_rows_are_named_by_their_url(s3, tmp_path):
    rows = b'{"text": "one"}\n{"text": "two"}\n'
    for key in ("x/rows.jsonl", "y/rows.jsonl"):
        s3.put_object(Bucket="sea", Key=key, Body=rows)
    pin = hashlib.sha256(rows).hexdigest()
    (tmp_path / "pins.txt").write_text(f"{pin}  s3://sea/y/rows.jsonl\n{pin}  s3://sea/x/rows.jsonl\n")
    source = Source(name="sea", path=RemoteList(checksums=tmp_path / "pins.txt"), licence="CC0-1.0")
    assert [found.id for found in read(source)] == [f"sea/{key}/rows.jsonl:{n}" for key in "yx" for n in (1, 2)]
    before = canonical(source)
    (tmp_path / "pins.txt").write_text(f"{pin}  s3://sea/y/rows.jsonl\n")
    assert canonical(source) != before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "expected at least one file, found none"),
        ("s3://sea/a.jsonl\n", r":1: expected '<sha256>  <url>' as `sha256sum` writes it, found 's3://sea/a.jsonl'"),
        (f"{'0' * 64}  s3://sea/a.jsonl\n" * 2, ":2: expected each file once, found s3://sea/a.jsonl again"),
        (f"{'0' * 64}  s3://sea/a.bin\n", "s3://sea/a.bin: expected a name in .jsonl, .* found 'a.bin'"),
        (f"{'0' * 64}  sea/a.jsonl\n", ":1: expected '<sha256>  <url>' .*, found"),
    ],
)
def test_a_list_that_is_none_is_refused_naming_the_line(tmp_path, lines, message):
    (tmp_path / "pins.txt").write_text(lines)
    with pytest.raises(InputError, match=message):
        shards_of(Source(name="sea", path=RemoteList(checksums=tmp_path / "pins.txt"), licence="CC0-1.0"))


@pytest.mark.parametrize("pin", ["0" * 64, "no-digest"])
def test_a_list_with_a_key_in_a_url_is_refused_and_the_key_not_repeated(tmp_path, pin):
    (tmp_path / "pins.txt").write_text(f"{pin}  s3://AKIA:hunter2@sea/a.jsonl\n")
    with pytest.raises(ConfigError, match="expected a URL without credentials") as refused:
        shards_of(Source(name="sea", path=RemoteList(checksums=tmp_path / "pins.txt"), licence="CC0-1.0"))
    assert "hunter2" not in str(refused.value)


def test_a_download_that_breaks_off_is_tried_again(web):
    web.breaks = 2
    assert len(read(pinned(f"{web.url}/sea.jsonl.gz"))) == 2_000
    assert web.requests == 3


def test_a_download_that_always_breaks_off_is_one_clear_error(web):
    web.breaks = 1_000
    with pytest.raises(InputError, match=r"sea.jsonl.gz: expected to read it, found in attempt 5 of 5: .*Check"):
        read(pinned(f"{web.url}/sea.jsonl.gz"))
    assert web.requests == remote.ATTEMPTS


def test_a_server_that_cannot_be_reached_is_tried_again_and_named(web):
    web.shutdown()
    web.server_close()
    with pytest.raises(InputError, match="found in attempt 5 of 5: ClientConnectorError: Cannot connect"):
        read(pinned(f"{web.url}/sea.jsonl.gz"))


def test_what_is_not_there_is_asked_for_once(web):
    with pytest.raises(InputError, match="in attempt 1 of 5: ClientResponseError: 404"):
        read(pinned(f"{web.url}/other.jsonl"))


def test_a_file_that_is_broken_as_pinned_is_named_by_its_url(web, tmp_path):
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(CONTENT[:-100])
    with pytest.raises(InputError, match=r"torn.jsonl.gz, as pinned: .*expected readable lines"):
        read(pinned(f"file://{torn}", torn.read_bytes()))


def test_without_the_s3_extra_the_error_says_how_to_get_it(monkeypatch):
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3://sea/a.jsonl: .*pip install 'llm-lifecycle\[s3\]'"):
        read(pinned("s3://sea/a.jsonl"))
