"""P1: an artifact has its manifest and every byte matches it, or it does not exist."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest

from lifecycle import sealing
from lifecycle.artifacts import Suites
from lifecycle.errors import ConfigError, DamagedArtifact, InputError
from lifecycle.sealing import StageConfig, canonical, fingerprint, how_it_ran, later_field


class RawConfig(StageConfig):
    stage: ClassVar[str] = "raw"
    words: int = 3
    share: float = 0.5
    source: Path | None = None
    ranks: int = how_it_ran(1)
    added: float | None = later_field(None)


def make_suites(folder: Path, config: RawConfig | None = None, text: str = "one\n") -> Suites:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text(text)
    (folder / "log").mkdir(exist_ok=True)
    (folder / "log" / "worker.log").write_text(f"ran at {time.time_ns()}\n")
    return Suites(path=folder, items={"items": 1}, baselines={"items": 1.0}).seal(config or RawConfig())


def test_a_sealed_artifact_loads_with_the_facts_it_was_sealed_with(tmp_path):
    sealed = make_suites(tmp_path / "a")
    assert Suites.load(tmp_path / "a") == sealed
    assert sealed.manifest.files["items.jsonl"].bytes == 4


def test_the_log_says_how_it_ran_and_is_not_part_of_what_it_is(tmp_path):
    first, second = make_suites(tmp_path / "a"), make_suites(tmp_path / "b")
    assert first.manifest.log != second.manifest.log
    assert first.digest == second.digest


def test_the_digest_follows_every_content_byte_and_every_fact(tmp_path):
    assert make_suites(tmp_path / "a").digest != make_suites(tmp_path / "b", text="two\n").digest


@pytest.mark.parametrize("victim", ["items.jsonl", "log/worker.log"])
def test_one_flipped_bit_is_found_and_the_file_named(tmp_path, victim):
    make_suites(tmp_path / "a")
    file = tmp_path / "a" / victim
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DamagedArtifact, match=victim.split("/")[-1]):
        Suites.load(tmp_path / "a")


def test_a_missing_an_added_and_a_truncated_file_are_found(tmp_path):
    for name, damage in {
        "missing": lambda folder: (folder / "items.jsonl").unlink(),
        "added": lambda folder: (folder / "extra.bin").write_text("x"),
        "truncated": lambda folder: (folder / "items.jsonl").write_text("on"),
    }.items():
        make_suites(tmp_path / name)
        damage(tmp_path / name)
        with pytest.raises(DamagedArtifact):
            Suites.load(tmp_path / name)


def test_an_edited_fact_is_found(tmp_path):
    make_suites(tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.json"
    data = json.loads(manifest.read_text())
    data["facts"]["items"]["items"] = 999
    manifest.write_text(json.dumps(data))
    with pytest.raises(DamagedArtifact, match="edited"):
        Suites.load(tmp_path / "a")


@pytest.mark.parametrize("target", ["/etc/hostname", "/etc"])
def test_a_link_to_a_file_or_a_folder_is_refused(tmp_path, target):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "items.jsonl").symlink_to(target)
    with pytest.raises(DamagedArtifact, match=r"items.jsonl: expected no link, found one. Copy what it points to."):
        Suites(path=tmp_path / "a", items={}, baselines={}).seal(RawConfig())


def test_a_directory_without_a_manifest_does_not_exist(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DamagedArtifact, match="does not exist"):
        Suites.load(tmp_path / "a")


def test_identity_follows_the_bytes_of_a_raw_file_and_not_its_name(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("same")
    other.write_text("same")
    assert fingerprint(RawConfig(source=one), []) == fingerprint(RawConfig(source=other), [])
    other.write_text("different")
    assert fingerprint(RawConfig(source=one), []) != fingerprint(RawConfig(source=other), [])


def test_identity_leaves_out_how_it_ran():
    assert fingerprint(RawConfig(ranks=1), []) == fingerprint(RawConfig(ranks=64), [])
    assert fingerprint(RawConfig(words=3), []) != fingerprint(RawConfig(words=4), [])


def test_a_field_added_later_is_in_the_identity_only_when_it_is_set():
    assert "added" not in canonical(RawConfig(added=None))
    assert canonical(RawConfig(added=0.0))["added"] == 0.0


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(ConfigError, match="no canonical form"):
        canonical({"model": object()})
    with pytest.raises(ConfigError, match="finite"):
        canonical(math.nan)


def test_a_missing_raw_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        fingerprint(RawConfig(source=tmp_path / "nowhere"), [])


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_sealing import make_suites
"""
WRITE = """
make_suites(Path(sys.argv[1]), text="x" * 200_000)
"""


@pytest.mark.slow
def test_killing_the_writer_between_system_calls_never_leaves_a_partial_artifact_that_loads(tmp_path):
    """The writer is killed before its 1st, 2nd, 3rd ... fsync, rename or open, by a real SIGKILL, until it survives."""
    survived = killed = 0
    for calls in range(1, 60):
        folder = tmp_path / f"{calls}"
        script = WRITER.format(tests=str(Path(__file__).parent)) + KILL_AFTER.format(calls=calls) + WRITE
        ended = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, capture_output=True)
        if ended.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert ended.returncode == 0, ended.stderr.decode()
            survived += 1
        try:
            loaded = Suites.load(folder)
        except DamagedArtifact:
            assert ended.returncode == -signal.SIGKILL
        else:
            assert loaded.manifest.files["items.jsonl"].bytes == 200_000
        if survived:
            break
    assert killed >= 5
    assert survived == 1


KILL_AFTER = """
import os, signal
left = {calls}
def dying(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
import pathlib
os.fsync = dying(os.fsync)
pathlib.Path.rename = dying(pathlib.Path.rename)
pathlib.Path.open = dying(pathlib.Path.open)
"""


def test_an_atomic_write_replaces_or_keeps_but_never_mixes(tmp_path, monkeypatch):
    file = tmp_path / "f"
    sealing.write_atomically(file, b"old")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sealing.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path).count("f") == 1
