"""Artifacts in a second place: a folder, and an S3-speaking server on loopback. Nothing that comes back is believed."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lifecycle import mirror, sealing
from lifecycle.__main__ import main
from lifecycle.artifacts import Tokenizer
from lifecycle.errors import ConfigError, DamagedArtifact, StoreError
from lifecycle.sealing import StageConfig
from lifecycle.shelves import Folder, Shelf, shelf_at
from lifecycle.store import Store


class Config(StageConfig):
    stage = "tokenizer"
    seed: int = 0
    text: str = "some words "


def make(config: Config, *, out_dir: Path) -> Tokenizer:
    """An artifact of four files: two are equal, one is empty."""
    (out_dir / "deep").mkdir()
    (out_dir / "words.txt").write_text(config.text * 20_000)
    (out_dir / "deep" / "again.txt").write_text(config.text * 20_000)
    (out_dir / "empty").write_bytes(b"")
    (out_dir / "seed.json").write_text(json.dumps(config.seed))
    facts = {"vocab_size": 9, "bos_id": 0, "pad_id": 1, "stop_id": 2, "protocol_digest": "p", "bytes_per_token": 1.0}
    known = {name: value for name, value in facts.items() if name in Tokenizer.model_fields}
    return Tokenizer(path=out_dir, **known).seal(config)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra `s3`")
    server = pytest.importorskip("moto.server", reason="comes with the dev extra").ThreadedMotoServer(
        port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    known = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="mirror-of-tests")
        yield "s3://mirror-of-tests"
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return shelf_at(str(tmp_path / "mirror"))
    return shelf_at(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.make(make, Config())
    return store


def spoil(shelf: Shelf, name: str, content: bytes | None) -> None:
    """Write over an object, as somebody else would; None removes it."""
    if isinstance(shelf, Folder):
        file = shelf.root / name
        file.unlink() if content is None else file.write_bytes(content)
    elif content is None:
        shelf.system.rm_file(f"{shelf.place}/{name}")
    else:
        shelf.system.pipe_file(f"{shelf.place}/{name}", content)


def blob_of(store: Store, name: str) -> str:
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    return f"blobs/{sealing.read_manifest(path).files[name].sha256}"


def test_what_is_pushed_and_pulled_is_the_same_and_is_reused(shelf, store, tmp_path):
    sent = mirror.push(store, shelf)
    assert (len(sent.moved), len(sent.present)) == (1, 0)
    other = Store(tmp_path / "other")
    assert mirror.pull(other, shelf).moved == sent.moved
    made = other.make(make, Config())
    assert made.reused
    assert made.artifact.digest == store.make(make, Config()).artifact.digest
    assert mirror.push(other, shelf).present == mirror.pull(other, shelf).present == sent.moved
    assert sum(name.startswith("blobs/") for name in shelf.names("")) == 4  # words once, and attempt.json


def test_of_two_who_publish_at_once_one_does(shelf, tmp_path):
    stores = [Store(tmp_path / name) for name in ("a", "b")]
    for each in stores:
        each.make(make, Config())
    start = threading.Barrier(2)

    def publish(each: Store) -> mirror.Moved:
        start.wait()
        return mirror.push(each, shelf)

    with ThreadPoolExecutor(2) as both:
        done = list(both.map(publish, stores))
    assert sorted((len(each.moved), len(each.present)) for each in done) == [(0, 1), (1, 0)]
    mirror.pull(Store(tmp_path / "c"), shelf)


def test_an_object_is_never_written_over(shelf, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    assert shelf.put("blobs/x", first)
    assert not shelf.put("blobs/x", second)
    assert b"".join(shelf.read("blobs/x")) == b"first"


def test_a_large_object_in_parts_is_not_written_over_either(s3, tmp_path, monkeypatch):
    """S3 compares at the end of such an upload."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, **_: 5 * 2**20)
    shelf = shelf_at(f"{s3}/large")
    file = tmp_path / "large"
    file.write_bytes(os.urandom(2**20) * 11)
    assert shelf.put("x", file)
    assert not shelf.put("x", file)
    assert shelf.size("x") == 11 * 2**20


def test_of_the_same_identity_with_other_bytes_the_first_stays(shelf, store, tmp_path):
    mirror.push(store, shelf)
    other = Store(tmp_path / "other")
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    twin = other.root / "artifacts" / "tokenizer" / path.name
    sealing.begin(twin, sealing.read_manifest(path).source)
    (twin / "rounded").write_text("another GPU")
    Tokenizer(path=twin, **sealing.read_manifest(path).facts).seal(Config())
    for done in (mirror.push(other, shelf), mirror.pull(other, shelf)):
        assert (done.moved, len(done.others)) == ([], 1)


@pytest.mark.parametrize("how", ["changed", "cut short", "longer", "gone"])
def test_a_damaged_object_is_named_and_nothing_is_there(shelf, store, tmp_path, how):
    mirror.push(store, shelf)
    blob = blob_of(store, "words.txt")
    whole = b"".join(shelf.read(blob))
    spoil(shelf, blob, {"changed": b"X" + whole[1:], "cut short": whole[:99], "longer": whole * 2, "gone": None}[how])
    other = Store(tmp_path / "other")
    with pytest.raises(DamagedArtifact, match=blob):
        mirror.pull(other, shelf)
    assert not list(other.root.glob("artifacts/tokenizer/[!.]*"))
    if how in ("changed", "gone"):
        return  # a push looks at sizes, not at all bytes
    spoil(shelf, mirror_name(store), None)
    with pytest.raises(DamagedArtifact, match=blob):
        mirror.push(store, shelf)


def mirror_name(store: Store) -> str:
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    return f"artifacts/tokenizer/{path.name}.json"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": "../../../evil"}, "names inside the artifact"),
        ({"name": "/etc/evil"}, "names inside the artifact"),
        ({"name": "manifest.json"}, "names inside the artifact"),
        ({"stage": "release"}, "expected the manifest of this name"),
        ({"fingerprint": "0" * 64}, "expected the manifest of this name"),
        ({"digest": "0" * 64}, "do not match its digest"),
        ({"facts": {}}, "do not match its digest"),
        ({"unknown": 1}, "expected a manifest"),
    ],
)
def test_a_forged_manifest_is_refused(store, tmp_path, changed, says):
    shelf = shelf_at(str(tmp_path / "mirror"))
    mirror.push(store, shelf)
    name = mirror_name(store)
    manifest = json.loads(b"".join(shelf.read(name)))
    if "name" in changed:
        manifest["files"][changed["name"]] = manifest["files"]["words.txt"]
    else:
        manifest |= changed
    spoil(shelf, name, json.dumps(manifest).encode())
    other = Store(tmp_path / "other")
    with pytest.raises(DamagedArtifact, match=says):
        mirror.pull(other, shelf)
    assert not list(other.root.glob("artifacts/tokenizer/[!.]*"))
    assert not (tmp_path / "evil").exists()


def test_a_pull_that_was_cut_off_goes_on_where_it_was(store, tmp_path, monkeypatch):
    shelf = shelf_at(str(tmp_path / "mirror"))
    mirror.push(store, shelf)
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    other = Store(tmp_path / "other")
    coming = other.root / "artifacts" / "tokenizer" / f".coming-{path.name}"
    coming.mkdir(parents=True)
    words = (path / "words.txt").read_bytes()
    (coming / f".{blob_of(store, 'words.txt').removeprefix('blobs/')}.part").write_bytes(words[:100_000])
    (coming / "left over").write_text("from another version")
    starts = []
    read = shelf.read
    monkeypatch.setattr(shelf, "read", lambda name, *, start=0: starts.append(start) or read(name, start=start))
    assert len(mirror.pull(other, shelf).moved) == 1
    assert 100_000 in starts


def test_a_wrong_beginning_of_our_own_is_not_blamed_on_the_mirror(store, tmp_path):
    shelf = shelf_at(str(tmp_path / "mirror"))
    mirror.push(store, shelf)
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    other = Store(tmp_path / "other")
    coming = other.root / "artifacts" / "tokenizer" / f".coming-{path.name}"
    coming.mkdir(parents=True)
    (coming / f".{blob_of(store, 'words.txt').removeprefix('blobs/')}.part").write_bytes(b"\0" * 100)
    assert len(mirror.pull(other, shelf).moved) == 1


def test_a_push_that_was_killed_sends_the_rest_and_the_manifest_last(store, tmp_path, monkeypatch):
    shelf = shelf_at(str(tmp_path / "mirror"))
    put, names = shelf.put, []

    def dies(name: str, file: Path) -> bool:
        if name.startswith("artifacts/") and not names:
            raise KeyboardInterrupt
        names.append(name)
        return put(name, file)

    monkeypatch.setattr(mirror, "AT_ONCE", 1)
    monkeypatch.setattr(
        shelf, "put", lambda name, file: put(name, file) if name.startswith("blobs/") else dies(name, file)
    )
    with pytest.raises(KeyboardInterrupt):
        mirror.push(store, shelf)
    assert mirror.pull(Store(tmp_path / "other"), shelf).moved == []
    monkeypatch.setattr(shelf, "put", put)
    done = mirror.push(store, shelf)
    assert (len(done.moved), done.bytes) == (1, 0)


def test_a_damaged_artifact_does_not_spread(store, tmp_path):
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    (path / "words.txt").write_text("flipped")
    shelf = shelf_at(str(tmp_path / "mirror"))
    with pytest.raises(DamagedArtifact, match=r"words\.txt"):
        mirror.push(store, shelf)
    assert shelf.names("") == []


def test_an_attempt_that_did_not_end_is_left_alone(store, tmp_path):
    shelf = shelf_at(str(tmp_path / "mirror"))
    mirror.push(store, shelf)
    [path] = (store.root / "artifacts" / "tokenizer").iterdir()
    other = Store(tmp_path / "other")
    begun = other.root / "artifacts" / "tokenizer" / path.name / "scratch"
    begun.mkdir(parents=True)
    with pytest.raises(StoreError, match="an attempt that did not end"):
        mirror.pull(other, shelf)
    assert begun.exists()


def test_the_command_pushes_pulls_and_names_what_is_missing(store, tmp_path, capsys):
    place = str(tmp_path / "mirror")
    store.make(make, Config(seed=1))
    assert main(["mirror", "push", place, "--store", str(store.root)]) == 0
    assert "2 artifacts sent" in capsys.readouterr().out
    digest = store.make(make, Config(seed=1)).artifact.digest
    assert main(["mirror", "pull", place, "--store", str(tmp_path / "other"), "--only", digest]) == 0
    assert "1 artifact fetched" in capsys.readouterr().out
    assert main(["mirror", "pull", place, "--store", str(tmp_path / "other"), "--only", "0" * 64]) == 2
    assert "Was it pushed?" in capsys.readouterr().err
    assert main(["mirror", "pull", place, "--store", str(tmp_path / "third"), "--stage", "release"]) == 0


@pytest.mark.parametrize("place", ["s3://key:secret@bucket/x", "http://host/x", "s3://", "ftp://x"])
def test_a_place_that_is_none_is_refused_without_its_password(place):
    with pytest.raises(ConfigError) as error:
        shelf_at(place)
    assert "secret" not in str(error.value)


def test_a_bucket_that_is_not_there_is_said(s3, store):
    with pytest.raises(StoreError, match="expected a bucket that is there"):
        mirror.push(store, shelf_at("s3://no-such-bucket/x"))
