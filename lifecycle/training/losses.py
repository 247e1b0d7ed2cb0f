"""The loss of next-token prediction, some rows of logits at a time: in fp32 there is never more than a chunk of them.

# B batch, T tokens, V vocabulary; N = B*T positions, C positions of one chunk
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from lifecycle.model.activations import positions_at_once
from lifecycle.training.arrays import array, arrays, share_out

LIFTED = 2.0**14  # the slope of a loss is up to 1: twice this still is a number in fp16


class Padding(NamedTuple):
    """The id that fills rows up, and the share of all labels of the data that are not it."""

    pad_id: int
    labelled_share: float


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor, padding: Padding | None = None) -> Tensor:
    """Mean of -log p(label) over all B*T positions, in nats, computed in fp32 whatever the logits are.

    The logits are used up: where a gradient is asked for, it takes their place in memory.

    A row of T+1 ids gives inputs `row[:-1]` and labels `row[1:]`: nothing is masked, so every rank's mean has the same
    weight and the mean of the ranks' means is the mean over the batch. Padding is no label; the sum is then divided by
    the number of labels to be expected, the same for every rank, so that every token weighs the same in the gradient.
    """
    labels_N = labels_BT.flatten()
    weights_N = torch.ones_like(labels_N, dtype=torch.float32) if padding is None else (labels_N != padding.pad_id)
    expected = labels_N.numel() * (1.0 if padding is None else padding.labelled_share)
    given = (logits_BTV.flatten(0, 1), labels_N, weights_N.float(), expected)
    loss: Tensor = _CrossEntropy.apply(*given)  # type: ignore[no-untyped-call]  # torch has no types for it
    return loss


def token_losses(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """-log p(label) of each position, shape (B, T). Without a gradient."""
    logits_NV, labels_N = logits_BTV.detach().flatten(0, 1), labels_BT.flatten()
    chunks = [
        functional.cross_entropy(logits_NV[chunk].float(), labels_N[chunk], reduction="none")
        for chunk in _chunks(logits_NV)
    ]
    return torch.cat(chunks).view_as(labels_BT)


class _CrossEntropy(Function):
    """The gradient of -log softmax is softmax minus one at the label: known as soon as the loss is.

    Written by hand for memory, and as fast on a CPU: PyTorch's own makes three fp32 tensors as large as the logits, 14
    bytes a logit with them in bf16. Here it is 2, and 8 for a sixteenth of them.
    As in Hsu et al. 2024, section 3.2 (https://arxiv.org/abs/2410.10989).
    """

    @staticmethod
    def forward(context: Any, logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, expected: float) -> Tensor:
        # A power of two is divided by in the backward pass alone: it costs no bit, and what is small has not vanished
        # in fp16 before a loss scale reaches it.
        later = 2.0 ** math.floor(math.log2(expected)) * LIFTED
        storage_NV, lift = logits_NV.detach(), later / expected if context.needs_input_grad[0] else 0.0
        by = _compiled if _is_for_loops(storage_NV) else _in_chunks
        total = by(storage_NV, labels_N, weights_N, lift)
        context.slope_NV, context.later = storage_NV, later
        return total / expected

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slope_NV, context.slope_NV = context.slope_NV, None  # the loss lives on in the loop, with its graph
        return slope_NV.mul_(gradients[0] / context.later), None, None, None


def _is_for_loops(logits_NV: Tensor) -> bool:
    return logits_NV.device.type == "cpu" and logits_NV.dtype != torch.float16 and logits_NV.is_contiguous()


def _compiled(logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, lift: float) -> Tensor:
    """The sum of all losses; in place of the logits their slope times `lift`, unless that is 0. A third of the time."""
    from lifecycle.training import kernels  # imports numba: no GPU waits for that

    losses_N = torch.empty_like(weights_N)
    given = *arrays(logits_NV, labels_N, weights_N), np.float32(lift), array(losses_N)
    share_out(kernels.cross_entropy, len(logits_NV), *given)
    return losses_N.sum()


def _in_chunks(logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, lift: float) -> Tensor:
    """The same in PyTorch's operations, anywhere."""
    total = torch.zeros((), device=logits_NV.device)
    for chunk in _chunks(logits_NV):
        p_CV = torch.softmax(logits_NV[chunk], -1, dtype=torch.float32)
        label_C1, weight_C1 = labels_N[chunk, None], weights_N[chunk, None]
        # The largest of V probabilities is at least 1/V, whose logarithm is safe, and with it all others.
        log_sum_C1 = logits_NV[chunk].amax(-1, keepdim=True).float() - p_CV.amax(-1, keepdim=True).log()
        total += ((log_sum_C1 - logits_NV[chunk].gather(1, label_C1)) * weight_C1).sum()
        if lift:
            p_CV.scatter_add_(1, label_C1, -torch.ones_like(weight_C1))
            logits_NV[chunk] = p_CV.mul_(weight_C1 * lift)
    return total


def _chunks(logits_NV: Tensor) -> Iterator[slice]:
    """Positions that are worked on together."""
    together = positions_at_once(*logits_NV.shape)
    for begin in range(0, len(logits_NV), together):
        yield slice(begin, begin + together)
