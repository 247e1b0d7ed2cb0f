"""The tiny recipe as InstructGPT has it: SFT, a reward model from the comparisons, PPO against it, and the gate.

Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, figure 2. `tiny` learns from the same comparisons directly (DPO).
"""

from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import PACK, tiny
from lifecycle.stages.gate import Ceiling, Floor
from lifecycle.stages.online import OnlineConfig
from lifecycle.stages.reward import RewardConfig
from lifecycle.training.drift import DriftPolicy

# The policy that is kept lies about 0.3 nats an answer from the SFT model and prefers 86 % of the held-out pairs more
# than that does; one that found the judge's weakness lay 5 nats away.
DRIFT = (Ceiling(metric="drift.kl", at_most=3.0), Floor(metric="drift.preferred", at_least=0.6))


def instructgpt(seed: int = 0) -> LifecycleConfig:
    """Up to the SFT model it is tiny: what is sealed of that run is reused. The gate asks for drift besides."""
    small = tiny(seed)
    changed = {
        "name": "instructgpt",
        # No comparison rejects null where the record shows the field: trained on these alone, a judge that is right on
        # 197 of 200 held-out pairs prefers null to every one of 88 right answers, and PPO against it says null.
        "reward": RewardConfig(learning_rate=3e-4, mismatched_per_pair=2, seed=seed),
        "preference": OnlineConfig(
            method="ppo",
            reward_source="model",
            epochs=1,
            batch_prompts=64,
            answers_per_prompt=2,
            learning_rate=2e-4,
            # The best policy is the SFT model's times exp(reward / coefficient): at 0.8 a judge's preference of 2 for
            # the terse answer is a factor of 12, and its error of 0.4 one of 1.6. At 0.05 greedy answers fell from
            # .923 right to .242 while the reward rose.
            kl_coefficient=0.8,
            seed=seed,
            drift=DriftPolicy(
                every_steps=4,
                prompts=200,  # of 64, two that lie 16 nats away leave the gate's ceiling INCONCLUSIVE
                guard=PACK / "contract/dev.jsonl.gz",
                guard_rows=240,
                max_new_tokens=32,
                max_disagreement=None,  # a policy that learns from rewards was not told what the pairs say
            ),
        ),
        "gate": small.gate.model_copy(update={"rules": (*small.gate.rules, *DRIFT)}),
        "typical_seconds": {**small.typical_seconds, "reward": 31.0, "preference": 75.0},
    }
    return LifecycleConfig(**{**dict(small), **changed})
