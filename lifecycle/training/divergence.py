"""How far two models are apart at each token, and how sure one is.

# N token positions, V vocabulary
"""

import torch
from torch import Tensor


def token_kl(logits_NV: Tensor, reference_NV: Tensor) -> Tensor:
    """KL(policy || reference) at each position, over the whole vocabulary, in nats: (N,).

    Its sum over a sampled answer estimates the sequence KL without bias and with less variance than the answer's own
    log-ratio, and is never negative (Amini et al. 2025, section 3, https://arxiv.org/abs/2504.10637).
    """
    log_p_NV, log_q_NV = logits_NV.float().log_softmax(-1), reference_NV.float().log_softmax(-1)
    return (log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1).clamp(min=0)


def entropy(logits_NV: Tensor) -> Tensor:
    """Of the next token at each position, in nats: (N,)."""
    log_p_NV = logits_NV.float().log_softmax(-1)
    return -(log_p_NV.exp() * log_p_NV).sum(-1)


def by_answer(value_N: Tensor, answer_N: Tensor, answers: int) -> tuple[Tensor, Tensor]:
    """The sum of each answer's values, and how many it has."""
    sums = torch.zeros(answers, dtype=value_N.dtype, device=value_N.device).index_add(0, answer_N, value_N)
    return sums, torch.bincount(answer_N, minlength=answers)
