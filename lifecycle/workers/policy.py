"""What learns: a policy, beside it the critic of PPO, and the reference both came from.

# B answers, S tokens of prompt and answer, T tokens of an answer, N tokens of all answers, V vocabulary, D width
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor, nn

from lifecycle.stages.online import OnlineConfig
from lifecycle.training import adapters
from lifecycle.training.divergence import entropy
from lifecycle.training.losses import next_token_loss
from lifecycle.workers import reward
from lifecycle.workers.posttrain import load_model
from lifecycle.workers.rollout import Batch


class Said(NamedTuple):
    """What the networks say of answers, each (B, T) and 0 behind an answer's end."""

    logprob: Tensor
    entropy: Tensor
    value: Tensor


class ActorCritic(nn.Module):
    """One module with all that an optimizer steps. Only PPO has a critic."""

    def __init__(self, policy: Any, critic: Any | None) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic

    def forward(self, batch: Batch, text_RT: Tensor | None = None) -> tuple[Said, Tensor]:
        """What is said of the answers, and the policy's mean loss on rows of pretraining text, 0 without any."""
        text_loss = batch.mask.new_zeros(())
        if text_RT is not None:
            text_loss = next_token_loss(self.policy(text_RT[:, :-1], use_cache=False).logits, text_RT[:, 1:])
        return Said(*log_probabilities(self.policy, batch), self.values(batch)), text_loss

    def values(self, batch: Batch) -> Tensor:
        """What the critic expects of each answer before each of its tokens, (B, T)."""
        if self.critic is None:
            return torch.zeros_like(batch.mask)
        inner = self.critic.get_base_model() if isinstance(self.critic, peft.PeftModel) else self.critic
        return inner.score(_hidden(inner, batch))[..., 0] * batch.mask  # type: ignore[no-any-return]


def log_probabilities(policy: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """ln p of each answer's tokens, and the entropy where each was chosen, both (B, T). Only these are projected."""
    inner = policy.get_base_model() if isinstance(policy, peft.PeftModel) else policy
    known_BT = batch.mask.bool()
    logits_NV = inner.get_output_embeddings()(_hidden(inner, batch)[known_BT]).float()
    chosen_N1 = batch.tokens[known_BT][:, None]
    found = (logits_NV.log_softmax(-1).gather(1, chosen_N1)[:, 0], entropy(logits_NV))
    spread = [torch.zeros_like(batch.mask).masked_scatter(known_BT, value_N) for value_N in found]
    return spread[0], spread[1]


def _hidden(model: Any, batch: Batch) -> Tensor:
    """The last layer's words where each token of an answer is foretold, (B, T, D)."""
    hidden_BSD = model.base_model(batch.ids, attention_mask=batch.seen, use_cache=False).last_hidden_state
    foretold_BTD: Tensor = hidden_BSD.gather(1, batch.at[..., None].expand(-1, -1, hidden_BSD.shape[-1]))
    return foretold_BTD


class Reference:
    """The policy as it was: its own base where an adapter learns, else a frozen copy."""

    def __init__(self, policy: Any, folder: Path, attention: str) -> None:
        self.policy = policy
        self.frozen = None if isinstance(policy, peft.PeftModel) else load_model(folder, attention).eval()
        if self.frozen is not None:
            self.frozen.requires_grad_(False).to(policy.device)

    @torch.no_grad()
    def log_probabilities(self, batch: Batch) -> Tensor:
        with self.speaking() as model:
            return log_probabilities(model, batch)[0]

    @contextmanager
    def speaking(self) -> Iterator[Any]:
        """The reference as a model, inside the block."""
        if self.frozen is not None:
            yield self.frozen
        else:
            with self.policy.disable_adapter():
                yield self.policy


def start(config: OnlineConfig, sft: Path, judge: Path | None, *, centre: float, scale: float) -> ActorCritic:
    """The SFT model as a policy, and for PPO a critic: the reward model's weights (Ouyang et al. 2022, appendix C.4),
    or where there is none the SFT model's, with a head that says 0.

    A reward r is learned from as (r - centre) / scale, and so the critic's head begins on that scale.
    """
    policy = load_model(sft, config.attention)
    critic = None
    if config.method == "ppo":
        critic = reward.load_judge(judge or sft, config.attention, seed=config.seed)
        weight_1D = critic.score.weight.detach() / scale if judge else torch.zeros_like(critic.score.weight)
        critic.score = nn.Linear(weight_1D.shape[1], 1)
        critic.score.weight.data, critic.score.bias.data = weight_1D, torch.tensor([-centre / scale])
    if config.lora:
        torch.manual_seed(config.seed)
        policy = peft.get_peft_model(policy, adapters.adapter(config.lora))
        critic = critic and peft.get_peft_model(critic, reward.judging(adapters.adapter(config.lora)))
    return ActorCritic(policy.train(), critic)
