"""Gumbel noise that has a name, which makes a sample of the model's answers the same in any batch.

# B rows, V vocabulary
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lifecycle.data.order import hash64

Name = tuple[str, int] | tuple[str, int, int]
"""Item and position in its answer; then the number of the sample, from the second on."""


class Noise:
    """Gumbel noise for every token, named by (seed, item, position): argmax of logits plus noise is a sample.

    Named, not drawn in turn: an item's sample is the same in any batch, and two models that hardly differ mostly give
    the same sample, which is what makes a paired comparison of sampled answers sharp.
    Gumbel 1954; the use for sampling: Maddison et al. 2014, "A* Sampling", eq. 2, https://arxiv.org/abs/1411.0030
    """

    def __init__(self, vocabulary: int, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.tokens_V = _mix32(torch.arange(vocabulary, dtype=torch.int32, device=device))

    def gumbel(self, names: Sequence[Name]) -> Tensor:
        """(B, V) for these items at these positions of their answers."""
        keys = [(hash64("answer", self.seed, *name) & 0xFFFFFFFF) - 2**31 for name in names]
        keys_B1 = torch.tensor(keys, dtype=torch.int32, device=self.device)[:, None]
        bits_BV = (_mix32(self.tokens_V ^ keys_B1) >> 8) & 0xFFFFFF
        # Uniform in (0, 1), away from 0. Where it rounds to 1 the noise is -inf: that token is not drawn.
        uniform_BV = (bits_BV.float() + 0.5) * 2.0**-24
        return -torch.log(-torch.log1p(-uniform_BV))


def _mix32(values: Tensor) -> Tensor:
    """Each int32 scrambled into 32 well mixed bits (lowbias32, C. Wellons 2018, "Prospecting for Hash Functions")."""
    values = (values ^ ((values >> 16) & 0xFFFF)) * 0x7FEB352D
    values = (values ^ ((values >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return values ^ ((values >> 16) & 0xFFFF)
