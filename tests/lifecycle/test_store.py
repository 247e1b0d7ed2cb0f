"""P2: a finished stage is neither redone nor changed, whoever asks, how often, at the same time or after a crash."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ConfigDict

from lifecycle import sealing
from lifecycle import store as store_module
from lifecycle.artifacts import Suites
from lifecycle.errors import DamagedArtifact, StaleArtifact, StoreError
from lifecycle.sealing import StageConfig
from lifecycle.store import Store


class CountConfig(StageConfig):
    stage: ClassVar[str] = "count"
    items: int = 1


def count(config: CountConfig, *inputs: Suites, out_dir: Path) -> Suites:
    """A stage that leaves a trace of every time it really runs."""
    with (out_dir.parent / "times_run").open("a") as trace:
        trace.write("x")
    time.sleep(0.05)
    (out_dir / "items.jsonl").write_text("item\n" * config.items)
    return Suites(path=out_dir, items={"items": config.items}, baselines={}).seal(config, *inputs)


def times_run(store: Store) -> int:
    return len((store.root / "artifacts" / "count" / "times_run").read_text())


def test_the_same_identity_is_made_once_and_then_reused(tmp_path):
    store = Store(tmp_path)
    first, second = store.make(count, CountConfig()), store.make(count, CountConfig())
    assert (first.reused, second.reused) == (False, True)
    assert first.artifact == second.artifact
    assert times_run(store) == 1


def test_another_config_or_another_input_is_another_artifact(tmp_path):
    store = Store(tmp_path)
    one, two = store.make(count, CountConfig(items=1)).artifact, store.make(count, CountConfig(items=2)).artifact
    assert one.path != two.path
    below_one, below_two = store.make(count, CountConfig(), one), store.make(count, CountConfig(), two)
    assert below_one.artifact.path != below_two.artifact.path


def make_in(folder: Path) -> str:
    return Store(folder).make(count, CountConfig()).artifact.digest


def test_processes_that_want_the_same_stage_at_once_make_it_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        digests = pool.map(make_in, [tmp_path] * 8)
    assert len(set(digests)) == 1
    assert times_run(Store(tmp_path)) == 1


def test_a_damaged_artifact_is_quarantined_named_and_made_again(tmp_path):
    store = Store(tmp_path)
    made = store.make(count, CountConfig())
    (made.artifact.path / "items.jsonl").write_text("itex\n")
    again = store.make(count, CountConfig())
    assert not again.reused
    assert "items.jsonl" in again.notes[0]
    assert "Quarantined" in again.notes[0]
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("dear", [False, True], ids=["cheap", "dear"])
def test_an_artifact_of_another_version_is_made_again_or_asked_about_and_never_a_bare_error(
    tmp_path, monkeypatch, dear
):
    store = Store(tmp_path)
    sealed = store.make(count, CountConfig()).artifact

    class Older(Suites):
        """Suites before they had baselines."""

        model_config = ConfigDict(extra="allow")

    (sealed.path / "manifest.json").unlink()
    older = Older.model_construct(path=sealed.path, items={"items": 1}, colour="red")
    older.seal(CountConfig())
    manifest = (sealed.path / "manifest.json").read_text().replace('"kind": "Older"', '"kind": "Suites"')
    digest = sealing._content_digest("Suites", older.facts(), older.manifest.files)
    (sealed.path / "manifest.json").write_text(manifest.replace(older.digest, digest))
    with pytest.raises(StaleArtifact, match="expected a Suites as this version makes it, found one of another version"):
        store.load(sealed.path)
    if dear:
        monkeypatch.setattr(store_module, "CHEAP_SECONDS", -1.0)
        with pytest.raises(StaleArtifact, match=r"colour: extra inputs.*Make it again with --rebuild count"):
            store.make(count, CountConfig())
    again = store.make(count, CountConfig(), on_drift="rebuild" if dear else "stop")
    assert not again.reused
    assert "made again" in again.notes[0]
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_a_killed_attempt_leaves_no_artifact_and_its_lock_is_free(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_store import *\n"
        "def hang(config: CountConfig, *, out_dir: Path) -> Suites:\n"
        "    (out_dir / 'half').write_text('x'); print('started', flush=True); time.sleep(60)\n"
        f"Store(Path({str(tmp_path)!r})).make(hang, CountConfig())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        os.kill(process.pid, signal.SIGKILL)
    made = Store(tmp_path).make(count, CountConfig())
    assert not made.reused
    assert not (made.artifact.path / "half").exists()


def drifted(monkeypatch, seconds: float) -> None:
    """Pretend the code of `count` changed after an artifact that took `seconds` was made."""
    monkeypatch.setattr(store_module, "source_closure", lambda _: {"lifecycle/stages/count.py": "changed"})
    monkeypatch.setattr(store_module, "CHEAP_SECONDS", 0.0 if seconds else 30.0)


def test_a_cheap_stage_whose_code_changed_is_made_again_and_the_old_artifact_kept(tmp_path, monkeypatch):
    store = Store(tmp_path)
    old = store.make(count, CountConfig()).artifact
    drifted(monkeypatch, seconds=0)
    new = store.make(count, CountConfig())
    assert not new.reused
    assert "lifecycle/stages/count.py" in new.notes[0]
    assert Suites.load(old.path) == old


def test_a_dear_stage_whose_code_changed_stops_and_names_the_files_and_both_ways_on(tmp_path, monkeypatch):
    store = Store(tmp_path)
    old = store.make(count, CountConfig()).artifact
    drifted(monkeypatch, seconds=90)
    with pytest.raises(StaleArtifact, match=r"count\.py.*--rebuild count.*--accept-drift count"):
        store.make(count, CountConfig())
    accepted = store.make(count, CountConfig(), on_drift="accept")
    assert accepted.artifact == old
    assert accepted.notes
    assert not store.make(count, CountConfig(), on_drift="rebuild").reused


def test_an_artifact_is_found_by_its_digest(tmp_path):
    store = Store(tmp_path)
    artifact = store.make(count, CountConfig()).artifact
    assert store.find(artifact.digest) == artifact
    with pytest.raises(DamagedArtifact, match="no artifact with digest"):
        store.find("0" * 64)


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "file" / "store")


def test_a_raw_file_that_changes_while_the_stage_runs_is_refused_and_nothing_is_left_to_reuse(tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("before")
    store = Store(tmp_path / "store")
    with pytest.raises(DamagedArtifact, match="changed while the stage ran"):
        store.make(meddle, RawConfig(source=raw))
    assert not list((tmp_path / "store" / "artifacts").glob("*/*/manifest.json"))


class RawConfig(StageConfig):
    stage: ClassVar[str] = "meddle"
    source: Path


def meddle(config: RawConfig, *, out_dir: Path) -> Suites:
    config.source.write_text("after")
    return Suites(path=out_dir, items={}, baselines={}).seal(config)
