"""The loss of next-token prediction.

# B batch, T tokens, V vocabulary
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class Padding(NamedTuple):
    """The id that fills rows up, and the share of all labels of the data that are not it."""

    pad_id: int
    labelled_share: float


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor, padding: Padding | None = None) -> Tensor:
    """Mean of -log p(label) over all B*T positions, in nats, computed in fp32 whatever the logits are.

    A row of T+1 ids gives inputs `row[:-1]` and labels `row[1:]`: nothing is masked, so every rank's mean has the same
    weight and the mean of the ranks' means is the mean over the batch. Padding is no label; the sum is then divided by
    the number of labels to be expected, the same for every rank, so that every token weighs the same in the gradient.
    """
    logits_NV, labels_N = logits_BTV.float().flatten(0, 1), labels_BT.flatten()
    if padding is None:
        return functional.cross_entropy(logits_NV, labels_N)
    total = functional.cross_entropy(logits_NV, labels_N, ignore_index=padding.pad_id, reduction="sum")
    return total / (labels_N.numel() * padding.labelled_share)


def token_losses(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """-log p(label) of each position, shape (B, T)."""
    return functional.cross_entropy(logits_BTV.float().transpose(1, 2), labels_BT, reduction="none")
