"""Logits as what is asked of them: the first choice, and how probable one id is. In fp32, whatever the model's weights.

# N tokens, V vocabulary; B rows, K tokens of each
"""

from typing import Any

import torch
from torch import Tensor

BLOCK = 32  # logits of which the largest is looked for within a block that holds the largest of all


def first_choice(logits_NV: Tensor) -> Tensor:
    """`logits_NV.argmax(-1)`, of equals the first.

    On a CPU argmax is slow (128 x 2,048: 390 us) and amax is not (20 us): the largest of every block, the first block
    that has the largest of them, and the place in it.
    """
    rows, size = logits_NV.shape
    if logits_NV.device.type != "cpu" or size % BLOCK:
        return logits_NV.argmax(-1)
    blocks = logits_NV.view(rows, size // BLOCK, BLOCK)
    block_N = blocks.amax(-1).argmax(-1)
    within = blocks[torch.arange(rows), block_N]
    return block_N * BLOCK + within.argmax(-1)


def nats_of(logits_NV: Tensor, wanted_N: Tensor) -> Tensor:
    """-ln p of one id for each row of logits. log_softmax is the fastest way on a CPU, faster than logsumexp."""
    return -logits_NV.log_softmax(-1).gather(-1, wanted_N[:, None])[:, 0]


def are_finite(logits_NV: Tensor) -> Tensor:
    """Which rows hold numbers alone, (N,)."""
    finite_N = torch.isfinite(logits_NV.sum(-1))  # a sum is no number where a term is none
    if not finite_N.all():  # or where finite terms add up to more than fp32 holds
        finite_N = torch.isfinite(logits_NV).all(-1)
    return finite_N


def scores(logits_NV: Tensor, wanted_N: Tensor) -> tuple[Tensor, Tensor]:
    """-ln p of one id for each row of logits, and whether it is the first choice. Overwrites the logits."""
    nats_N = nats_of(logits_NV, wanted_N)
    largest_N = logits_NV.amax(-1)
    first_N = logits_NV.gather(-1, wanted_N[:, None])[:, 0] == largest_N
    # Where another id has the same logit, the first of them is chosen.
    logits_NV.scatter_(-1, wanted_N[:, None], -torch.inf)
    tied = (first_N & (logits_NV.amax(-1) == largest_N)).nonzero()[:, 0]
    if len(tied):
        first_N[tied] = logits_NV[tied].argmax(-1) > wanted_N[tied]
    return nats_N, first_N


def target_scores(model: Any, wanted_BK: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    """-ln p of what is wanted behind each of the last K tokens, and whether it is the first choice there, both (B, K).

    Where a negative id is wanted nothing is scored: 0 and False. `given` is what the transformers model is called with.
    """
    logits_BKV = model(**given, use_cache="past_key_values" in given, logits_to_keep=wanted_BK.shape[1]).logits
    scored_BK = wanted_BK >= 0
    nats_N, first_N = scores(logits_BKV[scored_BK].float(), wanted_BK[scored_BK])
    nats_BK = nats_N.new_zeros(scored_BK.shape).masked_scatter(scored_BK, nats_N)
    return nats_BK, torch.zeros_like(scored_BK).masked_scatter(scored_BK, first_N)
