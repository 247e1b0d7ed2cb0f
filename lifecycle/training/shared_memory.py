"""The mean of numbers over the ranks of one machine, taken in memory that all of them see.

On a CPU gloo sends what a rank has through a socket to the process beside it; here each writes it down once and reads
what the others wrote. Every rank adds in the same order, so all get the same bits.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from lifecycle.training.agreement import on_first

FOLDER = Path("/dev/shm")
"""Files here are memory. What we make has no name any more once all ranks have it open: a killed run leaves nothing."""
PATIENCE = 1800.0
"""Seconds to wait for another rank: as long as for a collective, longer than the hang watch."""


class Neighbours:
    """The other ranks of one machine, a socket to each."""

    def __init__(self, folder: Path) -> None:
        """All meet in `folder`, which they share. A collective."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        self._sockets: list[socket.socket] = []
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / str(rank)))
            listening.listen(ranks)
            dist.barrier()
            for other in range(rank):
                self._sockets.append(socket.socket(socket.AF_UNIX))
                self._sockets[-1].connect(str(folder / str(other)))
            self._sockets += [listening.accept()[0] for _ in range(rank + 1, ranks)]
        for each in self._sockets:
            each.settimeout(PATIENCE)

    def wait(self) -> None:
        """Until every rank is here: a byte to each and from each, 0.1 ms where gloo's barrier takes 1.4.

        ConnectionError where one is gone.
        """
        for each in self._sockets:
            each.sendall(b".")
        for each in self._sockets:
            if not each.recv(1):
                raise ConnectionError("expected every rank of this machine, found that one has ended: see its log")


class SharedMean:
    """A row of fp32 numbers for each rank."""

    def __init__(self, numbers_RN: Tensor, neighbours: Neighbours) -> None:
        self._numbers_RN, self._neighbours, self._rank = numbers_RN, neighbours, dist.get_rank()

    @classmethod
    def between_ranks(cls, numbers: int) -> "SharedMean | None":
        """For so many numbers; None where a rank is alone, or they are on several machines, or short of memory."""
        ranks = dist.get_world_size()
        if ranks == 1 or os.environ.get("LOCAL_WORLD_SIZE") != str(ranks) or not FOLDER.is_dir():
            return None
        made = on_first(lambda: _made(4 * numbers * ranks))
        if made is None:
            return None
        folder = Path(made)
        mapped = torch.from_file(str(folder / "numbers"), shared=True, size=numbers * ranks, dtype=torch.float32)
        neighbours = Neighbours(folder)
        neighbours.wait()
        on_first(lambda: shutil.rmtree(folder))
        return cls(mapped.view(ranks, numbers), neighbours)

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Leave the mean over all ranks in each of these fp32 tensors. A collective."""
        lengths = [tensor.numel() for tensor in tensors]
        parts = [row.split(lengths) for row in self._numbers_RN[:, : sum(lengths)]]
        for tensor, mine in zip(tensors, parts[self._rank], strict=True):
            torch.mul(tensor.view(-1), 1 / len(parts), out=mine)
        self._neighbours.wait()
        for at, tensor in enumerate(tensors):
            whole = tensor.view(-1)
            torch.add(parts[0][at], parts[1][at], out=whole)
            for other in parts[2:]:
                whole.add_(other[at])
        self._neighbours.wait()  # before anybody writes again


def _made(size: int) -> str | None:
    """A folder with a file `numbers` of so many bytes, all of them there; None where there is no room."""
    folder = tempfile.mkdtemp(prefix="llm-lifecycle-", dir=FOLDER)
    try:
        with open(Path(folder) / "numbers", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # one with holes would end us by SIGBUS when they are written to
    except OSError:
        shutil.rmtree(folder)
        return None
    return folder
