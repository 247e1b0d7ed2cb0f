"""Ranks of one machine take the mean of their gradients in shared memory."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mean_of_ranks import RANKS, rank_of_three, rank_of_three_that_loses_one

from lifecycle.training import shared_memory
from lifecycle.training.shared_memory import SharedMean


def run_three(work: Callable[..., None], *given: object) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=work, args=(rank, *given)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0


def on_three_ranks(folder: Path, numbers: int) -> list:
    run_three(rank_of_three, folder, numbers)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def test_every_rank_gets_the_mean_step_after_step_and_no_file_is_left(tmp_path):
    for taken, left in on_three_ranks(tmp_path, numbers=7):
        assert left == 0
        for step, (first, second) in enumerate(taken):
            assert torch.allclose(first, torch.full((2, 2), 1.0 + step))  # of 0, 1 and 2
            assert torch.allclose(second, torch.arange(3.0))


def test_ranks_that_wait_for_one_that_is_gone_are_told(tmp_path):
    run_three(rank_of_three_that_loses_one, tmp_path)
    assert {file.name for file in tmp_path.glob("*.txt")} == {"0.txt", "2.txt"}


def test_without_room_for_it_ranks_go_on_with_gloo(tmp_path):
    assert on_three_ranks(tmp_path, numbers=2**50) == [None] * RANKS


def test_ranks_of_several_machines_share_no_memory(monkeypatch):
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert SharedMean.between_ranks(10) is None


@pytest.mark.parametrize("size", [2**60])
def test_a_file_without_room_is_removed(size):
    before = set(shared_memory.FOLDER.glob("llm-lifecycle-*"))
    assert shared_memory._made(size) is None
    assert set(shared_memory.FOLDER.glob("llm-lifecycle-*")) <= before
