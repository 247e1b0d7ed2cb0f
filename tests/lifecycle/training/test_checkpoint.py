"""Checkpoints are whole or do not exist (P1, P3). One rank and a stand-in engine; the real one is in workers/."""

import json
import logging
import os
import random
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lifecycle.errors import LifecycleError, StoreError
from lifecycle.training.checkpoint import Checkpoints


@pytest.fixture(autouse=True)
def one_rank():
    if not dist.is_initialized():  # one for all files of this process: deepspeed remembers the first it sees
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


class Engine:
    """One weight under Adam, and ZeRO stage 0."""

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.basic_optimizer = torch.optim.AdamW(self.module.parameters())

    def zero_optimization_stage(self) -> int:
        return 0

    def fp16_enabled(self) -> bool:
        return False

    optimizer = None

    @property
    def state(self) -> float:
        return self.module.weight.item()

    @state.setter
    def state(self, value: float) -> None:
        self.module.weight.data.fill_(value)


def saved(folder: Path, *steps: int, keep: int = 3, keep_best: bool = True, **made_by: object) -> Checkpoints:
    checkpoints, engine = Checkpoints(folder, keep=keep, keep_best=keep_best, made_by=made_by), Engine()
    for step in steps:
        engine.state = step * 10
        checkpoints.save(engine, step, {"at": step})
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
    "truncated": lambda path: os.truncate(path / "state-00000.safetensors", 99),
    "one bit flipped": lambda path: flip_a_bit(path / "state-00000.safetensors"),
    "a file missing": lambda path: (path / "random-00000.pt").unlink(),
    "a file added": lambda path: (path / "extra").write_text("x"),
    "manifest empty": lambda path: (path / "manifest.json").write_text(""),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
    "another step under its name": lambda path: (
        shutil.rmtree(path),
        shutil.copytree(path.with_name("step-00000001"), path),
    ),
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
    (tmp_path / "saving-00000002").mkdir(parents=True)
    assert checkpoints.load_newest(Engine()) == (1, {"at": 1})
    assert not (tmp_path / "saving-00000002").exists()


def test_a_checkpoint_of_other_settings_is_refused_with_every_difference(tmp_path):
    saved(tmp_path, 1, seed=0, watchdog={"history_steps": 128}, precision="bf16")
    now = {"seed": 7, "watchdog": {"history_steps": 64}, "precision": "bf16"}
    expected = r"found one with seed: 0 -> 7, watchdog.history_steps: 128 -> 64\. Use the settings"
    with pytest.raises(LifecycleError, match=expected):
        Checkpoints(tmp_path, keep=1, made_by=now, reshard=True).load_newest(Engine())


def test_another_layout_is_refused_with_the_way_on_and_taken_over_when_asked_for(tmp_path, caplog):
    first = Checkpoints(tmp_path, keep=1, made_by={}, layout={"ranks": 8, "zero": {"stage": 3}})
    first.save(Engine(), 1, {"at": 1})
    layout = {"ranks": 1, "zero": {"stage": 1}}
    with pytest.raises(LifecycleError, match=r"ranks: 8 -> 1, zero.stage: 3 -> 1\. Set reshard=true"):
        Checkpoints(tmp_path, keep=1, made_by={}, layout=layout).load_newest(Engine())
    asked = Checkpoints(tmp_path, keep=1, made_by={}, layout=layout, reshard=True)
    assert asked.load_newest(Engine()) == (1, {"at": 1})
    assert "ranks: 8 -> 1" in caplog.text


def test_the_best_is_kept_beside_the_newest_also_by_a_run_that_goes_on(tmp_path):
    checkpoints = saved(tmp_path, 1, keep=1)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, 2.1)):
        checkpoints.save(Engine(), step, {})
        checkpoints.validated(step, loss)
    assert names(tmp_path) == ["best.json", "step-00000002", "step-00000004"]
    again = saved(tmp_path, 5, keep=1)
    again.validated(5, 2.2)
    assert names(tmp_path) == ["best.json", "step-00000002", "step-00000005"]
    again.validated(5, 1.9)
    assert names(tmp_path) == ["best.json", "step-00000005"]


def test_a_best_that_a_rollback_removed_is_forgotten_and_none_is_kept_unless_wanted(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    checkpoints.validated(20, 1.0)
    checkpoints.roll_back(Engine(), at_most=19)
    checkpoints.validated(10, 2.0)  # worse than what is gone
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 10, "validation_loss": 2.0}
    without = saved(tmp_path / "without", 1, keep=1, keep_best=False)
    without.validated(1, 1.0)
    assert names(tmp_path / "without") == ["step-00000001"]


SIZE = 12  # one weight and two moments of Adam, in fp32


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def test_a_run_does_not_start_where_what_it_keeps_has_no_room(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "new", keep=2, made_by={})
    with_free(monkeypatch, 4 * SIZE)  # two, the best, and the one being written
    checkpoints.must_have_room(Engine())
    with_free(monkeypatch, 4 * SIZE - 1)
    with pytest.raises(
        StoreError, match=r"room for 4 checkpoints of 12 bytes .* 47 bytes free and 0 .*: 1 are missing"
    ):
        checkpoints.must_have_room(Engine())


def test_too_little_room_is_seen_before_anything_is_written_and_leaves_the_previous_whole(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, 1)
    with_free(monkeypatch, SIZE - 1)
    with pytest.raises(StoreError, match=r"step 2 .* too little space .*\(12 bytes needed, 11 free\). Earlier checkpo"):
        checkpoints.save(Engine(), 2, {})
    monkeypatch.undo()
    assert list(tmp_path.glob("saving-*/*")) == []
    assert checkpoints.load_newest(Engine()) == (1, {"at": 1})


def test_a_disk_that_fills_while_it_is_written_leaves_the_previous_whole(tmp_path):
    checkpoints = saved(tmp_path, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(StoreError, match=r"step 2 .*File too large.* needed, .* free"):
            checkpoints.save(Engine(), 2, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert checkpoints.load_newest(Engine()) == (1, {"at": 1})


@pytest.mark.parametrize("content", ["[]", "5", "null", '{"step": [1], "validation_loss": 1}', "{", ""])
def test_a_best_that_says_nothing_is_none(tmp_path, content):
    checkpoints = saved(tmp_path, 1, 2, keep=1)
    (tmp_path / "best.json").write_text(content)
    checkpoints.validated(2, float("nan"))  # no number is no best, and would be beaten by none
    assert (tmp_path / "best.json").read_text() == content
    checkpoints.validated(2, 3.0)
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 2
