"""What each method learns from a pair: one equation a function, loss per pair, shape (B,).

`PairLogProbs` are sums over answer tokens, the stop token with them. A *log-ratio* is log-prob now minus log-prob of
the reference; a *reward* is what a method believes an answer is worth, and what its margins are in.

# B pairs
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

REFERENCE_FREE = frozenset({"orpo", "simpo"})


class PairLogProbs(NamedTuple):
    """log p of both answers of each pair, each (B,)."""

    chosen: Tensor
    rejected: Tensor


class Pairs(NamedTuple):
    """All that a loss may read of a batch."""

    policy: PairLogProbs
    tokens: PairLogProbs
    """Tokens of the answers, as numbers to divide by."""
    reference: PairLogProbs | None = None
    """None where a method has none."""
    kl: Tensor | None = None
    """KTO's z0, a number of the whole batch."""

    def log_ratios(self) -> PairLogProbs:
        """log p - log p of the reference, of both answers."""
        assert self.reference is not None
        (chosen, rejected), reference = self.policy, self.reference
        return PairLogProbs(chosen - reference.chosen, rejected - reference.rejected)

    def means(self) -> PairLogProbs:
        """log p a token, of both answers."""
        return PairLogProbs(self.policy.chosen / self.tokens.chosen, self.policy.rejected / self.tokens.rejected)


def dpo(pairs: Pairs, *, beta: float) -> Tensor:
    """-log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)); log 2 where policy equals reference.

    Rafailov et al. 2023, eq. 7, https://arxiv.org/abs/2305.18290
    """
    chosen_B, rejected_B = pairs.log_ratios()
    return -logsigmoid(beta * (chosen_B - rejected_B))


def ipo(pairs: Pairs, *, tau: float) -> Tensor:
    """(difference of the log-ratios a token - 1 / (2 tau))^2: a margin to reach, and none to run away to.

    Azar et al. 2023, eq. 17, https://arxiv.org/abs/2310.12036. A token's mean, as in TRL: its authors confirmed that
    the paper's results have it (comment in TRL's `dpo_trainer.py`); a sum would ask long answers for more.
    """
    (chosen_B, rejected_B), tokens = pairs.log_ratios(), pairs.tokens
    difference_B = chosen_B / tokens.chosen - rejected_B / tokens.rejected
    return (difference_B - 1 / (2 * tau)) ** 2


def kto(pairs: Pairs, *, beta: float) -> Tensor:
    """Each answer by itself: 1 - sigmoid(beta * (r - z0)) of a wanted one, 1 - sigmoid(beta * (z0 - r)) of the other.

    r is the log-ratio, z0 the KL to the reference, a number without a gradient (`kto_kl`). Both weights are 1: pairs
    hold as many wanted answers as others. The mean of a pair's two answers.
    Ethayarajh et al. 2024, eq. 8, https://arxiv.org/abs/2402.01306
    """
    assert pairs.kl is not None
    chosen_B, rejected_B = pairs.log_ratios()
    wanted_B = 1 - torch.sigmoid(beta * (chosen_B - pairs.kl))
    other_B = 1 - torch.sigmoid(beta * (pairs.kl - rejected_B))
    return (wanted_B + other_B) / 2


def kto_kl(policy_B: Tensor, reference_B: Tensor) -> Tensor:
    """z0: the mean log-ratio of answers that belong to other prompts, at least 0. Section 4.1 of the same paper."""
    return (policy_B - reference_B).mean().clamp(min=0).detach()


def orpo(pairs: Pairs, *, weight: float) -> Tensor:
    """-mean log p of the chosen answer, and `weight` times -log sigmoid(log odds of chosen - log odds of rejected).

    Odds are p / (1 - p) of the geometric mean p of the tokens' probabilities. No reference.
    Hong et al. 2024, eq. 6 and 7, https://arxiv.org/abs/2403.07691
    """
    means = pairs.means()
    return -means.chosen - weight * logsigmoid(_log_odds(means.chosen) - _log_odds(means.rejected))


def simpo(pairs: Pairs, *, beta: float, margin: float) -> Tensor:
    """-log sigmoid(beta * (mean log p of chosen - mean log p of rejected) - margin). No reference.

    Meng et al. 2024, eq. 6, https://arxiv.org/abs/2405.14734
    """
    means = pairs.means()
    return -logsigmoid(beta * (means.chosen - means.rejected) - margin)


def loss(method: str, pairs: Pairs, *, beta: float, margin: float) -> Tensor:
    """The method's loss; `beta` is IPO's tau and ORPO's weight, `margin` SimPO's alone."""
    losses: Mapping[str, Callable[[], Tensor]] = {
        "dpo": lambda: dpo(pairs, beta=beta),
        "ipo": lambda: ipo(pairs, tau=beta),
        "kto": lambda: kto(pairs, beta=beta),
        "orpo": lambda: orpo(pairs, weight=beta),
        "simpo": lambda: simpo(pairs, beta=beta, margin=margin),
    }
    return losses[method]()


def rewards(method: str, pairs: Pairs, *, beta: float) -> PairLogProbs:
    """What the method believes each answer is worth: beta times its log-ratio; without a reference, its mean log p."""
    worth = pairs.means() if method in REFERENCE_FREE else pairs.log_ratios()
    return PairLogProbs(beta * worth.chosen.detach(), beta * worth.rejected.detach())


def _log_odds(log_p_B: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p <= 0, without losing 1 - p near p = 1 or p = 0 (`log1mexp`, Maechler 2012)."""
    log_p_B = log_p_B.clamp(max=-1e-7)  # a p of exactly 1 has no odds
    near_1 = log_p_B > -math.log(2)
    # `where` lets the gradient of the branch not taken through as 0 * inf: each branch gets what it can take.
    small = torch.log(-torch.expm1(torch.where(near_1, log_p_B, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near_1, -1.0, log_p_B)))
    return log_p_B - torch.where(near_1, small, large)
