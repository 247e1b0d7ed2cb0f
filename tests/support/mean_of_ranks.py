"""Ranks in processes of their own, which have no process group yet, that take means in shared memory."""

import os
from pathlib import Path

import torch
import torch.distributed as dist

from lifecycle.training import shared_memory
from lifecycle.training.shared_memory import SharedMean

RANKS = 3


def join(rank: int, folder: Path) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = str(RANKS)
    store = dist.FileStore(str(folder / "store"), RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)


def rank_of_three(rank: int, folder: Path, numbers: int) -> None:
    join(rank, folder)
    before = set(shared_memory.FOLDER.glob("llm-lifecycle-*"))
    shared = SharedMean.between_ranks(numbers)
    if shared is None:
        torch.save(None, folder / f"{rank}.pt")
        return
    after = set(shared_memory.FOLDER.glob("llm-lifecycle-*")) - before
    taken = []
    for step in range(3):
        gradients = [torch.full((2, 2), float(rank + step)), torch.arange(3.0) * rank]
        shared.take(gradients)
        taken.append(gradients)
    torch.save((taken, len(after)), folder / f"{rank}.pt")


def rank_of_three_that_loses_one(rank: int, folder: Path) -> None:
    join(rank, folder)
    shared = SharedMean.between_ranks(4)
    assert shared is not None
    shared.take([torch.ones(4)])
    if rank == 1:
        os._exit(0)
    try:
        shared.take([torch.ones(4)])
    except ConnectionError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    os._exit(0)  # gloo would wait for the one that is gone
