"""Keys and values of rows that are answered: each as long as it is, and room for what comes.

# B rows, S tokens of a row, G key heads, E head size
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ROOM = 16  # tokens the storage grows by


class Past:
    """Keys and values of rows that go on, (layer, B, room, 2, G, E), each row filled up to its own length.

    Until the first step they are those of a tree's nodes and the paths of the rows: a row that has ended by then is
    never copied.
    """

    def __init__(self, nodes: Tensor, path_BS: Tensor, length_B: Tensor) -> None:
        self._nodes, self._path_BS, self.length_B = nodes, path_BS, length_B
        self._kept: Tensor | None = None

    def room(self, columns: int) -> Tensor:
        """The storage, with room for so many columns."""
        if self._kept is None:
            # Room to grow holds a row's own last token: what is masked must be a number where the row's own are.
            path_BS = torch.cat([self._path_BS, self._path_BS[:, -1:].expand(-1, ROOM)], dim=1)
            self._kept = self._nodes.index_select(1, path_BS.flatten()).view(
                len(self._nodes), *path_BS.shape, *self._nodes.shape[2:]
            )
        layers, rows, held, *shape = self._kept.shape
        if held < columns:
            grown = self._kept.new_zeros(layers, rows, columns + ROOM, *shape)
            grown[:, :, :held] = self._kept
            self._kept = grown
        return self._kept

    def advance(self, tokens: Sequence[int]) -> None:
        """So many more tokens of each row's last step count: its guesses were right."""
        self.length_B = self.length_B + torch.tensor(tokens, device=self.length_B.device)

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> list[int]:
        """Drop the other rows, and return the numbers of those that are held now, in their order.

        Rows from the end take the places of those that are dropped: nothing else is copied.
        """
        if self._kept is None:
            self.select(torch.tensor(rows, device=self.length_B.device))
            return rows
        held = set(rows)
        holes = [row for row in range(len(rows)) if row not in held]
        movers = [row for row in rows if row >= len(rows)]
        order = list(range(len(rows)))
        for hole, mover in zip(holes, movers, strict=True):
            self._kept[:, hole] = self._kept[:, mover]
            order[hole] = mover
        self._kept, self.length_B = self._kept[:, : len(rows)], self.length_B[order]
        return order

    def select(self, rows: Tensor) -> None:
        """These rows, in this order, each as often as it is named; before the first step."""
        assert self._kept is None
        self._path_BS, self.length_B = self._path_BS[rows], self.length_B[rows]
