"""Reinforcement learning from feedback as equations: pure functions of tensors, in the order in which a step uses them.

Each names its source. `workers.online` puts them together: PPO, RLOO and GRPO share all but the advantage.

# B answers, G answers to one prompt, T tokens of the longest answer. mask_BT is 1 where an answer has a token; behind
# its end everything is 0.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Over = Literal["tokens", "answers", "sums"]


def masked_mean(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over all tokens of all answers."""
    return (value_BT * mask_BT).sum() / mask_BT.sum()


def token_weights(mask_BT: Tensor, over: Over) -> Tensor:
    """What a token's loss weighs in the batch's, (B, T), as each method says; a part of the batch keeps its weights.

    tokens: all alike (PPO). answers: the mean over answers of each one's mean (GRPO, eq. 3 of
    https://arxiv.org/abs/2402.03300). sums: the mean over answers of each one's sum (RLOO: an answer is one action).
    """
    match over:
        case "tokens":
            return mask_BT / mask_BT.sum()
        case "answers":
            return mask_BT / mask_BT.sum(1, keepdim=True) / len(mask_BT)
        case "sums":
            return mask_BT / len(mask_BT)


# Rewards


def token_rewards(
    score_B: Tensor, logprob_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor, *, kl_coefficient: float
) -> Tensor:
    """What each token earns, (B, T): -beta * (log pi - log pi_ref), and the answer's score at its last token.

    Summed over an answer this is the bracket of eq. 2 of Ouyang et al. 2022, https://arxiv.org/abs/2203.02155; the
    split over tokens is that of Ziegler et al. 2019, section 2.1, https://arxiv.org/abs/1909.08593.
    """
    reward_BT = -kl_coefficient * (logprob_BT - reference_BT) * mask_BT
    last_B1 = mask_BT.sum(1, keepdim=True).long() - 1
    return reward_BT.scatter_add(1, last_B1, score_B[:, None].to(reward_BT))


def shaped_scores(
    score_B: Tensor, logprob_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor, *, kl_coefficient: float
) -> Tensor:
    """The same summed over each answer, (B,): what RLOO calls the reward. Ahmadian et al. 2024, eq. 3,
    https://arxiv.org/abs/2402.14740."""
    return token_rewards(score_B, logprob_BT, reference_BT, mask_BT, kl_coefficient=kl_coefficient).sum(1)


class AdaptiveKl(NamedTuple):
    """The KL coefficient, moved so that the policy keeps a distance from the reference: Ziegler et al. 2019,
    section 2.2, https://arxiv.org/abs/1909.08593."""

    target: float
    """Nats an answer; where the coefficient stands still."""
    gain: float = 0.1

    def after(self, coefficient: float, kl: float) -> float:
        """The coefficient of the next step: it grows by `gain` times the relative error, which is cut at 0.2."""
        error = min(0.2, max(-0.2, (kl - self.target) / self.target))
        return coefficient * (1 + self.gain * error)


# Advantages


def generalized_advantages(
    reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, *, discount: float, gae_lambda: float
) -> Tensor:
    """GAE(gamma, lambda), (B, T): the sum over l of (gamma lambda)^l delta_{t+l}, with delta_t = r_t + gamma V_{t+1} -
    V_t and no value behind the last token. Schulman et al. 2015, eq. 16, https://arxiv.org/abs/1506.02438.

    The return a critic learns is this plus its own value (lambda-return).
    """
    advantage_BT = torch.zeros_like(reward_BT)
    after_B = ahead_B = torch.zeros_like(reward_BT[:, 0])
    for t in reversed(range(reward_BT.shape[1])):
        delta_B = reward_BT[:, t] + discount * after_B - value_BT[:, t]
        ahead_B = (delta_B + discount * gae_lambda * ahead_B) * mask_BT[:, t]
        after_B = value_BT[:, t] * mask_BT[:, t]
        advantage_BT[:, t] = ahead_B
    return advantage_BT


def whitened(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """With mean 0 and variance 1 over all tokens, and 0 behind an answer's end. Ziegler et al. 2019 do so with
    advantages, https://github.com/openai/lm-human-preferences."""
    mean = masked_mean(value_BT, mask_BT)
    variance = masked_mean((value_BT - mean) ** 2, mask_BT)
    return (value_BT - mean) * torch.rsqrt(variance + 1e-8) * mask_BT


def leave_one_out(score_B: Tensor, group: int) -> Tensor:
    """Each score minus the mean of the other answers to its prompt, (B,); answers of one prompt follow one another.

    The baseline of RLOO: Kool et al. 2019; Ahmadian et al. 2024, section 3.3, https://arxiv.org/abs/2402.14740.
    """
    score_PG = score_B.view(-1, group)
    others_PG = (score_PG.sum(1, keepdim=True) - score_PG) / (group - 1)
    return (score_PG - others_PG).flatten()


def relative_to_group(score_B: Tensor, group: int) -> Tensor:
    """Each score minus the mean of its group, over the group's standard deviation, (B,); 0 where all score alike.

    The advantage of GRPO: Shao et al. 2024, section 4.1.2, https://arxiv.org/abs/2402.03300.
    """
    score_PG = score_B.view(-1, group)
    centred_PG = score_PG - score_PG.mean(1, keepdim=True)
    deviation_P1 = score_PG.std(1, keepdim=True, correction=0)
    return torch.where(deviation_P1 > 1e-6, centred_PG / deviation_P1.clamp(min=1e-6), 0.0).flatten()


# Losses


def clipped_policy_loss(logprob_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, *, clip: float) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) for each token, (B, T), with ratio pi / pi_old.

    Schulman et al. 2017, eq. 7, https://arxiv.org/abs/1707.06347. Where policies are equal its gradient is that of
    -A log pi, REINFORCE's.
    """
    ratio_BT = (logprob_BT - old_BT).exp()
    held_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio_BT * advantage_BT, held_BT * advantage_BT)


def clipped_value_loss(value_BT: Tensor, old_BT: Tensor, return_BT: Tensor, *, clip: float) -> Tensor:
    """Half the squared error of each value, (B, T); where it moved by more than `clip`, no less than it would be there.

    Engstrom et al. 2020, section 3, https://arxiv.org/abs/2005.12729, in the form of OpenAI's code: the larger of both.
    """
    held_BT = old_BT + (value_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((value_BT - return_BT) ** 2, (held_BT - return_BT) ** 2)


def kl_estimate(logprob_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """pi_ref/pi - log(pi_ref/pi) - 1 for each sampled token, (B, T): never negative, and KL(pi, pi_ref) on average.

    The penalty of GRPO: Shao et al. 2024, eq. 4, https://arxiv.org/abs/2402.03300.
    """
    log_ratio_BT = reference_BT - logprob_BT
    return log_ratio_BT.exp() - log_ratio_BT - 1


def with_pretraining(policy_loss: Tensor, next_token_loss: Tensor, *, weight: float) -> Tensor:
    """PPO-ptx: the loss of the policy plus gamma times that of pretraining text. Ouyang et al. 2022, eq. 2."""
    return policy_loss + weight * next_token_loss


# The reward model


def bradley_terry_loss(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected) for each pair, (B,). Ouyang et al. 2022, eq. 1, with K = 2."""
    return -torch.nn.functional.logsigmoid(chosen_B - rejected_B)
