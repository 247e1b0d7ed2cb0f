"""Which rows a rank sees, as tensors, and what of them is padding. The order lives in `data.loader`.

# B rows, T tokens
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifecycle.data.loader import Loader
from lifecycle.data.shard_reader import ShardReader
from lifecycle.training.losses import Padding


class Batches:
    """The training and validation rows of one rank."""

    def __init__(
        self,
        reader: ShardReader,
        *,
        batch_rows: int,
        micro_batch_rows: int,
        seed: int,
        rank: int,
        ranks: int,
        workers: int = 0,
    ) -> None:
        self.reader, self.batch_rows, self.micro_batch_rows, self.seed = reader, batch_rows, micro_batch_rows, seed
        self.rank, self.ranks = rank, ranks
        self._loader = Loader(reader, batch_rows=batch_rows, seed=seed, rank=rank, ranks=ranks, workers=workers)

    @property
    def padding(self) -> Padding | None:
        """What no loss is taken on; None when rows are full."""
        index = self.reader.index
        if not index.padding_tokens:
            return None
        labels = len(self.reader) * (index.max_seq_len - 1)  # the first token of a row is no label
        return Padding(index.pad_id, labelled_share=1 - index.padding_tokens / labels)

    def row_ids(self, step: int) -> NDArray[np.int64]:
        """Global indices of the rows all ranks see in this step, shape (batch_rows,)."""
        return self._loader.row_ids(step)

    def training(self, step: int) -> Iterator[Tensor]:
        """This rank's share of the step, in micro batches of shape (micro_batch_rows, T)."""
        mine = torch.from_numpy(self._loader.rows(step))
        for start in range(0, len(mine), self.micro_batch_rows):
            yield mine[start : start + self.micro_batch_rows]

    def validation(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """This rank's share of the held-out rows (B, T), the weights of its rows (B,): 1, or 0 for filling, and the
        number of each token's source (B, T).

        Every rank gets the same number of batches: in ZeRO stage 3 a forward pass is a collective.
        """
        rows, sources = self.reader.validation(), self.reader.sources_of_validation()
        per_round = self.ranks * self.micro_batch_rows
        padded = np.resize(np.arange(len(rows)), -(-len(rows) // per_round) * per_round)
        weights = (np.arange(len(padded)) < len(rows)).astype(np.float64)
        mine = np.arange(self.rank, len(padded), self.ranks)
        for start in range(0, len(mine), self.micro_batch_rows):
            here = mine[start : start + self.micro_batch_rows]
            taken = padded[here]
            yield torch.from_numpy(rows[taken]), torch.from_numpy(weights[here]), torch.from_numpy(sources[taken])
