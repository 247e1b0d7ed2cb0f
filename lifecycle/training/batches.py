"""Which rows a rank sees, as tensors, and what of them is padding. The order lives in `data.loader`.

# B rows, T tokens
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifecycle.data.loader import Loader
from lifecycle.data.shard_reader import ShardReader
from lifecycle.training.losses import Padding


class Fed(NamedTuple):
    """Ids (B, T), and where documents are kept apart the position of each token in its own."""

    ids: Tensor
    positions: Tensor | None

    def to(self, device: torch.device) -> "Fed":
        """The same there."""
        positions_BT = None if self.positions is None else self.positions.to(device, non_blocking=True)
        return Fed(self.ids.to(device, non_blocking=True), positions_BT)

    def logits(self, model: Any) -> Tensor:
        """What a model or engine says after each token but the last of a row, which has no label and is not fed at all.

        transformers' masks keep apart what positions that do not go up by one divide; its flash attention does so in a
        batch of one row alone.
        """
        ids_BT = self.ids[:, :-1]
        if self.positions is None:
            logits_BTV: Tensor = model(input_ids=ids_BT, use_cache=False).logits
            return logits_BTV
        positions_BT = self.positions[:, :-1]
        config = getattr(model, "module", model).config
        shape = (1, -1) if config._attn_implementation == "flash_attention_2" else ids_BT.shape
        ids, positions = ids_BT.reshape(shape), positions_BT.reshape(shape)
        logits_BTV = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        return logits_BTV.reshape(*ids_BT.shape, -1)


class _Positions:
    """Reads positions where a loader asks for rows."""

    def __init__(self, reader: ShardReader) -> None:
        self.rows_for, self.rows = reader.rows_for, reader.positions


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
        apart: bool = False,
    ) -> None:
        """`apart`: documents of one row do not see each other."""
        self.reader, self.batch_rows, self.micro_batch_rows, self.seed = reader, batch_rows, micro_batch_rows, seed
        self.rank, self.ranks = rank, ranks
        share: dict[str, int] = {"batch_rows": batch_rows, "seed": seed, "rank": rank, "ranks": ranks}
        self._loader = Loader(reader, **share, workers=workers)
        self._positions = Loader(_Positions(reader), **share, workers=workers) if apart else None

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

    def training(self, step: int) -> Iterator[Fed]:
        """This rank's share of the step, in micro batches of shape (micro_batch_rows, T)."""
        ids = torch.from_numpy(self._loader.rows(step))
        positions = torch.from_numpy(self._positions.rows(step)) if self._positions else None
        for start in range(0, len(ids), self.micro_batch_rows):
            here = slice(start, start + self.micro_batch_rows)
            yield Fed(ids[here], None if positions is None else positions[here])

    def validation(self) -> Iterator[tuple[Fed, Tensor, Tensor]]:
        """This rank's share of the held-out rows (B, T), the weights of its rows (B,): 1, or 0 for filling, and the
        number of each token's source (B, T).

        Every rank gets the same number of batches: in ZeRO stage 3 a forward pass is a collective.
        """
        rows, sources = self.reader.validation(), self.reader.sources_of_validation()
        positions = self.reader.validation_positions() if self._positions else None
        per_round = self.ranks * self.micro_batch_rows
        padded = np.resize(np.arange(len(rows)), -(-len(rows) // per_round) * per_round)
        weights = (np.arange(len(padded)) < len(rows)).astype(np.float64)
        mine = np.arange(self.rank, len(padded), self.ranks)
        for start in range(0, len(mine), self.micro_batch_rows):
            here = mine[start : start + self.micro_batch_rows]
            taken = padded[here]
            fed = Fed(torch.from_numpy(rows[taken]), None if positions is None else torch.from_numpy(positions[taken]))
            yield fed, torch.from_numpy(weights[here]), torch.from_numpy(sources[taken])
