"""What a step learns from: answers as tensors, with the advantage of every token as the method has it.

# B answers, T tokens of an answer
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lifecycle.stages.online import OnlineConfig
from lifecycle.training import ppo
from lifecycle.workers.rollout import Answer, Batch, as_batch, filled


class Experience(NamedTuple):
    """All that a step learns from, (B, T), 0 behind an answer's end. No network is asked twice what it said before."""

    batch: Batch
    old: Tensor
    """ln p under the policy that drew the answers."""
    reference: Tensor
    value: Tensor
    advantage: Tensor
    returns: Tensor
    """What the critic learns."""

    def of(self, rows: Sequence[int]) -> "Experience":
        """That of some answers."""
        return Experience(Batch(*(one[rows] for one in self.batch)), *(one[rows] for one in self[1:]))

    @property
    def kl(self) -> float:
        """Distance from the reference in nats an answer, over samples of the policy."""
        return float(((self.old - self.reference) * self.batch.mask).sum(1).mean())

    @property
    def explained_variance(self) -> float:
        """Share of the returns' variance that the critic foretold; 1 is all, below 0 is worse than their mean."""
        known = self.batch.mask.bool()
        returns, missed = self.returns[known], (self.returns - self.value)[known]
        return 1 - float(missed.var() / returns.var().clamp(min=1e-8))


def experience(config: OnlineConfig, answers: Sequence[Answer], *, kl_coefficient: float) -> Experience:
    """The experience of scored answers; those of one prompt follow one another."""
    batch = as_batch(answers)
    mask_BT = batch.mask
    old_BT = filled([answer.sampled for answer in answers], mask_BT)
    reference_BT = filled([answer.reference for answer in answers], mask_BT)
    value_BT = filled([answer.values for answer in answers], mask_BT)
    score_B = torch.tensor([answer.score for answer in answers]).to(mask_BT)
    given = (score_B, old_BT, reference_BT, mask_BT)
    advantage_BT = return_BT = torch.zeros_like(mask_BT)
    match config.method:
        case "ppo":
            reward_BT = ppo.token_rewards(*given, kl_coefficient=kl_coefficient)
            advantage_BT = ppo.generalized_advantages(
                reward_BT, value_BT, mask_BT, discount=config.discount, gae_lambda=config.gae_lambda
            )
            return_BT = advantage_BT + value_BT
            advantage_BT = ppo.whitened(advantage_BT, mask_BT)
        case "rloo":
            shaped_B = ppo.shaped_scores(*given, kl_coefficient=kl_coefficient)
            advantage_BT = ppo.leave_one_out(shaped_B, config.answers_per_prompt)[:, None] * mask_BT
        case "grpo":
            advantage_BT = ppo.relative_to_group(score_B, config.answers_per_prompt)[:, None] * mask_BT
    return Experience(batch, old_BT, reference_BT, value_BT, advantage_BT, return_BT)
