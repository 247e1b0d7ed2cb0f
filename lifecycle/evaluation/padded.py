"""Any transformers model, asked as `llama.Llama` is for what answers need: rows padded on the left, under a mask.

# B rows, T tokens, V vocabulary
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

Ids = Sequence[int]

# A cache that is cut down is copied: with fewer ended rows than this the copy costs more than it saves (measured on
# d128 L4: a quarter and a third are equally fast, 8 % faster than never and 5 % faster than at once).
ENDED_SHARE = 0.25


class PaddedPast:
    """transformers' cache of rows that go on, the mask over its columns, and the position of each row's last token."""

    def __init__(self, cache: DynamicCache, mask_BT: Tensor) -> None:
        self.cache, self.mask_BT, self.last_B1 = cache, mask_BT, mask_BT.sum(1, keepdim=True) - 1

    def keep(self, rows: list[int]) -> list[int]:
        """Drop the other rows, if they are enough, and return the numbers of those that are held, in their order."""
        held = len(self.mask_BT)
        if len(rows) > (1 - ENDED_SHARE) * held:
            return list(range(held))
        self.select(torch.tensor(rows, device=self.mask_BT.device))
        return rows

    def select(self, rows: Tensor) -> None:
        """These rows, in this order, each as often as it is named."""
        self.cache.batch_select_indices(rows)
        self.mask_BT, self.last_B1 = self.mask_BT[rows], self.last_B1[rows]


class Padded:
    """A network that `llama.Llama` does not know."""

    checks_guesses = False

    def __init__(self, model: Any) -> None:
        self.model, self.config, self.device = model, model.config, model.device

    @torch.inference_mode()
    def read(self, rows: Sequence[Ids], guesses: Sequence[Ids] = ()) -> tuple[Tensor, PaddedPast]:
        """The logits behind each row, (B, V) in fp32, and what is kept of the rows. It is given no guesses to check."""
        ids_BT, mask_BT = padded(rows, 0, self.device, left=True)
        past = PaddedPast(DynamicCache(config=self.config), mask_BT)
        return self._call(ids_BT, (mask_BT.cumsum(1) - 1).clamp(min=0), past)[:, -1], past

    @torch.inference_mode()
    def step(self, past: PaddedPast, tokens: Sequence[Ids]) -> Tensor:
        """The logits behind one more token of every row, (B, V) in fp32; `past` grows by it."""
        past.last_B1 = past.last_B1 + 1
        past.mask_BT = torch.cat([past.mask_BT, torch.ones_like(past.last_B1)], dim=1)
        return self._call(torch.tensor(tokens, device=self.device), past.last_B1, past)[:, -1]

    def _call(self, ids_BT: Tensor, position_BT: Tensor, past: PaddedPast) -> Tensor:
        # use_cache is said, not left to the config: False there makes generation 19 times slower, without a word.
        found = self.model(
            input_ids=ids_BT,
            attention_mask=past.mask_BT,
            position_ids=position_BT,
            past_key_values=past.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits.float()  # type: ignore[no-any-return]


def padded(rows: Sequence[Ids], fill: int, device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (N, T)."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        more = width - len(row)
        ids.append([fill] * more + list(row) if left else list(row) + [fill] * more)
        mask.append([0] * more + [1] * len(row) if left else [1] * len(row) + [0] * more)
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
