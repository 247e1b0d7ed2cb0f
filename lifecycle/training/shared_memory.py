"""The mean of gradients over the ranks of one machine, taken in memory that all of them see.

On a CPU gloo sends what a rank has through a socket to the process beside it; here each writes it down once and reads
what the others wrote. Every rank adds in the same order, so all get the same bits.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from lifecycle.training.agreement import on_first

FOLDER = Path("/dev/shm")
"""Files here are memory. What we make has no name any more once all ranks have it open: a killed run leaves nothing."""


class SharedMean:
    """A row of fp32 numbers for each rank."""

    def __init__(self, numbers_RN: Tensor) -> None:
        self._numbers_RN, self._rank, self._ranks = numbers_RN, dist.get_rank(), dist.get_world_size()

    @classmethod
    def between_ranks(cls, numbers: int) -> "SharedMean | None":
        """For so many numbers; None where a rank is alone, or they are on several machines, or short of memory."""
        ranks = dist.get_world_size()
        if ranks == 1 or os.environ.get("LOCAL_WORLD_SIZE") != str(ranks) or not FOLDER.is_dir():
            return None
        path = on_first(lambda: _made(4 * numbers * ranks))
        if path is None:
            return None
        mapped = torch.from_file(path, shared=True, size=numbers * ranks, dtype=torch.float32)
        dist.barrier()
        on_first(lambda: os.unlink(path))
        return cls(mapped.view(ranks, numbers))

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Leave the mean over all ranks in each of these fp32 tensors. A collective."""
        lengths = [tensor.numel() for tensor in tensors]
        parts = [row.split(lengths) for row in self._numbers_RN[:, : sum(lengths)]]
        for tensor, mine in zip(tensors, parts[self._rank], strict=True):
            torch.mul(tensor.view(-1), 1 / self._ranks, out=mine)
        dist.barrier()
        for at, tensor in enumerate(tensors):
            whole = tensor.view(-1)
            torch.add(parts[0][at], parts[1][at], out=whole)
            for other in parts[2:]:
                whole.add_(other[at])
        dist.barrier()  # before anybody writes again


def _made(size: int) -> str | None:
    """A file of so many bytes, all of them there; None where there is no room."""
    descriptor, path = tempfile.mkstemp(prefix="llm-lifecycle-", dir=FOLDER)
    try:
        os.posix_fallocate(descriptor, 0, size)  # a file with holes would end us by SIGBUS when they are written to
    except OSError:
        os.unlink(path)
        return None
    finally:
        with suppress(OSError):
            os.close(descriptor)
    return path
