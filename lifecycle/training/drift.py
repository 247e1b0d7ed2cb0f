"""How far training moves a model from the one it began as, and when that has gone wrong.

A reward can rise while the model forgets its task: a wrong label, a length or a phrase is learned as readily as what
was meant. Each rule below looks at something that the reward does not see.

| rule | evidence | action |
|---|---|---|
| labels_swapped | held-out pairs are preferred the wrong way round, beyond chance | refuse |
| labels_disagree | some held-out pairs are preferred the other way as firmly as the others the right way | refuse |
| moved_too_far | the sequence KL to the reference, over samples of the policy, above its limit | stop |
| chosen_falls | held-out chosen answers have become unlikely, a token: DPO's likelihood displacement | stop |
| contract_falls | fewer guard conversations answered right, beyond what chance does to all looks together | stop |
| forgets_text | more bits per byte of the guard documents | stop |
| length_runs_away | samples longer or shorter than the reference's, beyond a factor | stop |
| repeats_itself | samples hold fewer distinct pairs of tokens than the reference's | stop |
| reward_is_gamed | the reward learned from rises while a held-out second one falls | stop |

*stop* ends the training and keeps the best weights before it; *refuse* ends it with nothing kept: the data is at
fault. Pure functions of what was measured; `divergence` measures, and a worker samples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Action = Literal["stop", "refuse"]
Measured = Mapping[str, float]

CHANCE_DEVIATIONS = 3.0  # of a share's standard error; a run is asked some ten times
FIRM = 0.5  # of the median margin of pairs preferred the right way
FEWEST = 5  # pairs against their label that say anything
SWAPPED = 0.75  # of the labels: more than coins would give
SETTLED = 0.75  # labels are judged once so many pairs are decided either way


class DriftPolicy(BaseModel):
    """What is measured while training, how often, and how much of each is too much. None switches a rule off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    every_steps: int = Field(20, ge=1, description="Also before the first step, and after the last.")
    prompts: int = Field(
        64, ge=8, description="Held-out prompts that the policy and the reference answer, sampled at 1."
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest of these answers.")
    guard: Path | None = Field(
        None,
        description="Conversations whose last answer is one JSON object with one field: the contract, asked greedily.",
    )
    guard_rows: int | None = Field(None, ge=8, description="Only the first so many of them; None: all.")
    documents: Path | None = Field(
        None, description="Rows with a `text`, for bits per byte: what must not be forgotten."
    )
    rewards: tuple[Path, ...] = Field(
        (), max_length=2, description="Reward checkpoints: the one learned from, and one held out to judge by."
    )
    max_kl: float | None = Field(20.0, gt=0, description="Nats an answer.")
    max_chosen_fall: float | None = Field(0.5, gt=0, description="Nats a token, of held-out chosen answers.")
    max_contract_fall: float | None = Field(0.03, gt=0, lt=1, description="Share of guard rows, beyond chance.")
    false_alarm: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="How likely a training that loses just max_contract_fall is stopped by chance, all looks together.",
    )
    max_bits_rise: float | None = Field(
        0.25,
        gt=0,
        description="Share of the bits per byte before the first step. Healthy runs here rise by up to .13, an "
        "over-strong one by .64.",
    )
    max_length_factor: float | None = Field(3.0, gt=1, description="Longer or shorter than the reference's answers.")
    min_distinct_share: float | None = Field(
        0.3, gt=0, lt=1, description="Of the reference's distinct pairs of tokens."
    )
    max_disagreement: float | None = Field(0.08, gt=0, lt=0.5, description="Share of held-out pairs; wrong labels.")

    @model_validator(mode="after")
    def _guards_have_rows(self) -> Self:
        if self.guard_rows is not None and self.guard is None:
            raise ValueError("guard_rows is a number of the rows of `guard`, found no guard. Name its file.")
        return self

    def tail_at(self, step: int) -> float:
        """The error probability that the look after `step` may spend.

        A training is looked at again and again, and each look is another chance to be wrong. The k-th spends the share
        1 / (k (k + 1)) of `false_alarm`; these add up to 1 over any number of looks, so that by Bonferroni's inequality
        (weighted: Rosenthal and Rubin 1983, "Ensemble-adjusted p values", Psychological Bulletin 94:540-541) all looks
        together keep it, however they depend on each other and however long the training is.
        """
        look = max(1, math.ceil(step / self.every_steps))
        return self.false_alarm / (look * (look + 1))


class Fault(NamedTuple):
    """A rule that was broken, and by what."""

    rule: str
    action: Action
    evidence: str


def faults(policy: DriftPolicy, first: Measured, now: Measured, *, pairs: int) -> Iterator[Fault]:
    """The rules broken by what was measured `now`, against `first`, before the first step; the gravest first.

    `pairs` stand behind the shares of pairs: what chance can do to so few accuses nobody.
    """
    yield from _wrong_labels(policy, now, pairs)
    if _above(now, "kl", policy.max_kl):
        yield Fault("moved_too_far", "stop", f"a KL to the reference of {now['kl']:.1f} nats an answer")
    fall = -now.get("chosen_change", 0.0)
    if policy.max_chosen_fall is not None and fall > policy.max_chosen_fall:
        yield Fault(
            "chosen_falls", "stop", f"held-out chosen answers lost {fall:.2f} nats a token: both answers are unlearned"
        )
    yield from _forgets(policy, first, now)
    ratio = now.get("length_ratio", 1.0)
    if policy.max_length_factor is not None and not 1 / policy.max_length_factor <= ratio <= policy.max_length_factor:
        yield Fault("length_runs_away", "stop", f"answers {ratio:.2f} times as long as the reference's")
    share = now.get("distinct_2", 1.0) / max(now.get("reference_distinct_2", 1.0), 1e-9)
    if policy.min_distinct_share is not None and share < policy.min_distinct_share:
        yield Fault("repeats_itself", "stop", f"{share:.0%} of the reference's distinct pairs of tokens are left")
    yield from _gamed(first, now)


def _wrong_labels(policy: DriftPolicy, now: Measured, pairs: int) -> Iterator[Fault]:
    wrong, disagree = 1 - now.get("reward_accuracy", 1.0), now.get("disagreement", 0.0)
    if now.get("decided", 0.0) < SETTLED:  # margins have not moved yet
        return
    if wrong > 0.5 + CHANCE_DEVIATIONS * math.sqrt(0.25 / max(1, pairs)):
        said = f"{wrong:.0%} of {pairs} held-out pairs are preferred the wrong way round"
        yield Fault("labels_swapped", "refuse", f"{said}: chosen and rejected look swapped")
    elif policy.max_disagreement is not None and disagree > policy.max_disagreement and disagree * pairs >= FEWEST:
        rule = "labels_swapped" if disagree > SWAPPED else "labels_disagree"
        said = f"{disagree:.0%} of {pairs} held-out pairs are preferred the other way, as firmly as the others"
        yield Fault(rule, "refuse", f"{said}: their labels, or those trained on, look wrong")


def _forgets(policy: DriftPolicy, first: Measured, now: Measured) -> Iterator[Fault]:
    if _above(now, "contract_fall_shown", policy.max_contract_fall):
        said = f"{now['contract']:.1%} of the guard conversations right, {first['contract']:.1%} before the first step"
        yield Fault("contract_falls", "stop", f"{said}: a fall of at least {now['contract_fall_shown']:.1%} is shown")
    if policy.max_bits_rise is not None and "bits_per_byte" in now:
        rise = now["bits_per_byte"] / first["bits_per_byte"] - 1
        if rise > policy.max_bits_rise:
            yield Fault("forgets_text", "stop", f"{rise:.0%} more bits per byte of the guard documents")


def _gamed(first: Measured, now: Measured) -> Iterator[Fault]:
    """The proxy goes on rising where the gold reward falls: Gao et al. 2023, figure 1, https://arxiv.org/abs/2210.10760"""
    if "second_reward" not in now:
        return
    proxy, second = now["reward"] - first["reward"], now["second_reward"] - first["second_reward"]
    error = CHANCE_DEVIATIONS * math.hypot(first["second_reward_error"], now["second_reward_error"])
    if proxy > 0 and second < -error:
        said = f"the reward rose by {proxy:.2f} while the second, held-out one fell by {-second:.2f}"
        yield Fault("reward_is_gamed", "stop", said)


def _above(now: Measured, name: str, limit: float | None) -> bool:
    return limit is not None and now.get(name, 0.0) > limit


def distinct(answers: Sequence[Sequence[int]], n: int) -> float:
    """Distinct runs of n tokens, of all of them (distinct-n, Li et al. 2016, https://arxiv.org/abs/1510.03055)."""
    runs = [tuple(answer[at : at + n]) for answer in answers for at in range(len(answer) - n + 1)]
    return len(set(runs)) / max(1, len(runs))


def of_margins(margins: Sequence[float]) -> dict[str, float]:
    """What the reward margins of held-out pairs say: how many are won, and how many firmly lost.

    With wrong labels among those trained on, a pair's margin tells what the rest say of it: a firm loss is a label that
    the others contradict, as in confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068).
    """
    won = [margin for margin in margins if margin > 0]
    lost = [-margin for margin in margins if margin < 0]
    usual = median(won or lost or [0.0])
    return {
        "reward_accuracy": len(won) / len(margins),
        "reward_margin": fmean(margins),
        "decided": sum(abs(margin) > FIRM * usual for margin in margins) / len(margins),
        "disagreement": sum(loss > FIRM * usual for loss in lost) / len(margins),
    }


def as_metrics(measured: Measured) -> dict[str, Any]:
    """Under the names they have in metrics.jsonl."""
    return {f"drift/{name}": value for name, value in measured.items()}
