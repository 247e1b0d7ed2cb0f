"""Which rows a step reads: a function of its number alone, so that a run that was killed goes on where it was."""

from collections.abc import Iterator, Sequence
from itertools import count

import torch

WINDOW_BATCHES = 4


class LengthWindows:
    """A shuffled order in which rows of like length share a batch, as far as that leaves batches alike.

    Rows are sorted by length within windows of a few batches, and the batches of all windows are shuffled again. The
    LengthGroupedSampler of transformers sorts windows of 50 batches and keeps that order: the learning rate then
    ends on the shortest rows.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed

    def batches(self) -> Iterator[list[int]]:
        """Batches without end, each of exactly `batch` rows: what an epoch leaves over opens the next one."""
        left: list[int] = []
        for epoch in count():
            whole, left = self._epoch(epoch, left)
            yield from whole

    def _epoch(self, epoch: int, left: list[int]) -> tuple[list[list[int]], list[int]]:
        """The whole batches of an epoch, shuffled, and the rows that are left over."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order: list[int] = [*left, *torch.randperm(len(self.lengths), generator=generator).tolist()]
        window = WINDOW_BATCHES * self.batch
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            rows = sorted(order[start : start + window], key=self.lengths.__getitem__)
            batches += [rows[first : first + self.batch] for first in range(0, len(rows), self.batch)]
        over = batches.pop() if len(batches[-1]) < self.batch else []
        return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()], over
