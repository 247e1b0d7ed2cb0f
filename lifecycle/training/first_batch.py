"""What must hold for the tensors of a batch before the first step: they teach what its conversations say, no more.

The laws of `chat.parity` are about rows of ids and masks. Between those and the loss stands the code that lays rows out
as tensors, where a mask can be lost and conversations can come to see each other, while the loss falls as ever.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from lifecycle.errors import ContractError
from lifecycle.training.conversations import IGNORED, Conversation

# Of the summed loss. In fp32, together or alone, the sealed tiny base and its SFT checkpoint differ by 0; where
# conversations see each other, by 0.002 and 5 of it. On random weights, by 6e-6: such hide it.
TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-2

Inputs = Mapping[str, Tensor]
C = TypeVar("C", bound=Conversation)


def check(
    rows: Sequence[C],
    laid_out: Callable[[Sequence[C]], Inputs],
    loss: Callable[[Inputs], float],
    *,
    exact: bool,
) -> None:
    """Raise ContractError where the labels are not the supervised ids, or where rows together are not rows alone.

    `laid_out` makes the tensors of some rows, `loss` sums -log p over their labels. `exact`: the weights are fp32.
    """
    together = laid_out(rows)
    labels_are_the_supervised_ids(rows, together)
    conversations_do_not_see_each_other(
        loss(together), sum(loss(laid_out([row])) for row in rows), TOLERANCE if exact else HALF_TOLERANCE
    )


def labels_are_the_supervised_ids(rows: Sequence[Conversation], inputs: Inputs) -> None:
    """Every supervised id is a label exactly once, where its row has it, and nothing else is one."""
    expected = [t for row in rows for t, mask in zip(row.ids, row.assistant_mask, strict=True) if mask]
    labels, ids = inputs["labels"], inputs["input_ids"]
    taught = labels != IGNORED
    found = labels[taught].tolist()
    if sorted(found) != sorted(expected) or not torch.equal(labels[taught], ids[taught]):
        raise ContractError(
            f"expected the loss on {len(expected)} supervised tokens of the first {len(rows)} conversations, each its "
            f"own label, found it on {len(found)} of {labels.numel()} places. The mask was lost or moved where rows "
            "are laid out as tensors; mend lifecycle.training.conversations."
        )


def conversations_do_not_see_each_other(together: float, alone: float, tolerance: float) -> None:
    """The loss of rows that share a batch or a row is the sum of their losses alone."""
    if not abs(together - alone) <= tolerance * abs(alone):
        raise ContractError(
            f"expected a loss of {alone:.6f}, which these conversations have one by one, found {together:.6f} laid out "
            "together: they see each other, or their positions run on. Give packed rows the mask and positions that "
            "part them."
        )
