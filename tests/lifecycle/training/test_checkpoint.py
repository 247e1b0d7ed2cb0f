"""Checkpoints are whole or do not exist (P1, P3). One rank and a stand-in engine; the real one is in workers/."""

import logging
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lifecycle.errors import LifecycleError, StoreError
from lifecycle.training.checkpoint import Checkpoints


@pytest.fixture(autouse=True)
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Engine:
    """Saves and loads one number."""

    state = 0

    def save_checkpoint(self, folder, tag, save_latest):
        Path(folder, tag).mkdir()
        torch.save({"state": torch.tensor(self.state)}, Path(folder, tag, "state.pt"))

    def load_checkpoint(self, folder, tag):
        self.state = int(torch.load(Path(folder, tag, "state.pt"), weights_only=False)["state"])


def saved(folder: Path, *steps: int, keep: int = 3, **made_by: object) -> Checkpoints:
    checkpoints, engine = Checkpoints(folder, keep=keep, made_by=made_by), Engine()
    for step in steps:
        engine.state = step * 10
        checkpoints.save(engine, step, {"at": step})
    return checkpoints


def test_the_newest_is_restored_and_no_more_than_keep_are_held(tmp_path):
    checkpoints, engine = saved(tmp_path, 1, 2, 3, keep=2), Engine()
    assert checkpoints.load_newest(engine) == (3, {"at": 3})
    assert engine.state == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_going_back_removes_what_is_younger(tmp_path):
    checkpoints, engine = saved(tmp_path, 10, 20, 30), Engine()
    assert checkpoints.roll_back(engine, at_most=29) == (20, {"at": 20})
    assert engine.state == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000020"]


def test_going_back_further_than_the_oldest_leaves_all_of_them(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    assert checkpoints.roll_back(Engine(), at_most=9) == (0, {})
    assert checkpoints.load_newest(Engine()) == (20, {"at": 20})


def test_no_checkpoint_was_ever_made_means_start_at_zero(tmp_path):
    assert Checkpoints(tmp_path / "none", keep=1, made_by={}).load_newest(Engine()) == (0, {})


def test_every_random_generator_goes_on_where_it_was(tmp_path):
    checkpoints = saved(tmp_path, 1)
    expected = [torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()]
    checkpoints.load_newest(Engine())
    assert [torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()] == expected


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "truncated": lambda path: os.truncate(path / "deepspeed/state.pt", 99),
    "one bit flipped": lambda path: flip_a_bit(path / "deepspeed/state.pt"),
    "a file missing": lambda path: (path / "random-00000.pt").unlink(),
    "a file added": lambda path: (path / "extra").write_text("x"),
    "manifest empty": lambda path: (path / "manifest.json").write_text(""),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_is_named_quarantined_and_the_one_before_used(tmp_path, damage, caplog):
    checkpoints, engine = saved(tmp_path, 1, 2), Engine()
    DAMAGE[damage](tmp_path / "step-00000002")
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_newest(engine) == (1, {"at": 1})
    assert engine.state == 10
    assert "step-00000002 failed verification" in caplog.text
    assert (tmp_path / "quarantine" / "step-00000002").is_dir()


def test_all_damaged_is_an_error_now_and_the_next_time_never_a_fresh_start(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    for path in tmp_path.glob("step-*"):
        DAMAGE["truncated"](path)
    for _ in range(2):
        with pytest.raises(LifecycleError, match="only damaged ones: step-00000001, step-00000002"):
            checkpoints.load_newest(Engine())


def test_a_save_that_was_killed_leaves_nothing_that_is_read(tmp_path):
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "saving-00000002" / "deepspeed").mkdir(parents=True)
    assert checkpoints.load_newest(Engine()) == (1, {"at": 1})
    assert not (tmp_path / "saving-00000002").exists()


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(tmp_path):
    saved(tmp_path, 1, ranks=2, seed=0)
    with pytest.raises(LifecycleError, match=r"found one with ranks: 2 \(now 4\)"):
        Checkpoints(tmp_path, keep=1, made_by={"ranks": 4, "seed": 0}).load_newest(Engine())


def test_a_full_disk_is_reported_with_bytes_and_leaves_the_previous_whole(tmp_path):
    class DiskFull(Engine):
        def save_checkpoint(self, folder, tag, save_latest):
            raise OSError(28, "No space left on device")

    checkpoints = saved(tmp_path, 1)
    with pytest.raises(StoreError, match=r"No space left on device.* free"):
        checkpoints.save(DiskFull(), 2, {})
    assert checkpoints.load_newest(Engine()) == (1, {"at": 1})
