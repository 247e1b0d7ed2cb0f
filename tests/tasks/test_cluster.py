"""On a real cluster of two worker processes, one of them killed in mid-run."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from dask_cluster import DaskCluster
from near_copies import shard_of_twins
from spread_work import doubled, killed_once, refused_from_two

from lifecycle import progress, recipes
from lifecycle.data.documents import Source
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.near_duplicates import near_duplicates
from lifecycle.errors import ConfigError, InputError
from lifecycle.progress import Progress
from lifecycle.sealing import MANIFEST
from lifecycle.spread import spread, spreading_over
from lifecycle.stages.corpus import CorpusConfig, build_corpus
from lifecycle.stages.suites import collect_suites
from tasks import cluster as module
from tasks.cluster import Cluster, House, in_the_same_house, versions


@pytest.fixture(scope="module")
def dask(tmp_path_factory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as running:
        yield running


@contextmanager
def spreading_over_cluster(dask: DaskCluster, shared: Path, *, kill_after: Progress | None = None) -> Iterator[None]:
    """A worker is killed at the given progress; before, there are two again."""
    while len(dask.workers) < 2:
        dask.workers.append(dask.add_worker())

    def kill(at: Progress) -> None:
        if at == kill_after:
            dask.kill_a_worker()

    with spreading_over(Cluster(dask.address, shared=shared, workers=2)), progress.listening(kill):
        yield


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        # The manifest says when it was made; a part is what a dead worker had half written.
        if path.is_file() and path.name != MANIFEST and path.suffix != ".part"
    }


@pytest.mark.slow
def test_the_clusters_are_those_of_one_process_although_a_worker_was_killed(dask, tmp_path, caplog):
    shards = [partial(shard_of_twins, 150, 6, number) for number in range(6)]
    alone = near_duplicates(shards, NearDuplicates(), scratch=tmp_path / "alone", compiled=False)
    at = Progress(2, 6, "shards", "near duplicates: shards hashed")
    with caplog.at_level(logging.WARNING), spreading_over_cluster(dask, tmp_path, kill_after=at):
        together = near_duplicates(shards, NearDuplicates(), scratch=tmp_path / "together", compiled=False)
    assert np.array_equal(together.cluster, alone.cluster)
    assert together[1:] == alone[1:]
    assert alone.verified_pairs > 0
    assert "the cluster lost the worker" in caplog.text
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_the_corpus_is_that_of_one_process_although_a_worker_was_killed(dask, tmp_path):
    (tmp_path / "rows").mkdir()
    for number in range(6):
        rows = [{"id": f"{number}-{row}", "text": text} for row, text in enumerate(shard_of_twins(150, 6, number))]
        (tmp_path / "rows" / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    source = Source(name="twins", path=tmp_path / "rows", licence="CC0", is_prose=False)
    config = CorpusConfig(sources=(source,))
    for name in ("suites", "alone", "together"):
        (tmp_path / name).mkdir()
    suites = collect_suites(recipes.load("tiny", []).suites, out_dir=tmp_path / "suites")
    alone = build_corpus(config, suites, out_dir=tmp_path / "alone")
    at = Progress(2, 6, "shards", "reading and cleaning")
    with spreading_over_cluster(dask, tmp_path, kill_after=at):
        together = build_corpus(config, suites, out_dir=tmp_path / "together")
    assert together.digest == alone.digest
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert len(dask.workers) == 1


@pytest.mark.slow
def test_a_task_that_had_the_killed_worker_is_done_again_and_one_that_was_refused_is_not(dask, tmp_path):
    tasks = [(number, tmp_path) for number in range(6)]
    with spreading_over_cluster(dask, tmp_path):
        assert spread(killed_once, tasks, unit="shards") == [0, 2, 4, 6, 8, 10]
        with pytest.raises(InputError, match=r"^shards 3 of 5: expected less than 2, found 2\. Ask for less\.$"):
            spread(refused_from_two, range(5), unit="shards")
    dask.workers = [worker for worker in dask.workers if worker.poll() is None]
    assert len((tmp_path / "tries-1").read_text().splitlines()) == 2
    assert list(tmp_path.glob(".seen*")) == []


def test_a_worker_that_does_not_see_the_store_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SEE_SECONDS", 0)
    with pytest.raises(ConfigError, match=r"expected a worker on .* to see the store .*elsewhere, found nothing there"):
        in_the_same_house(House(tmp_path / "elsewhere" / "probe", versions(doubled)), doubled, 1)


def test_a_worker_with_other_code_is_refused_with_both_versions(tmp_path):
    (tmp_path / "probe").touch()
    with pytest.raises(ConfigError, match=rf"found: numpy {versions(doubled)['numpy']}, not 1\.0\."):
        in_the_same_house(House(tmp_path / "probe", {**versions(doubled), "numpy": "1.0"}), doubled, 1)


def test_a_scheduler_that_does_not_answer_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9 with 1 workers or more"):
        Cluster("tcp://127.0.0.1:9", shared=tmp_path, workers=1).open()
