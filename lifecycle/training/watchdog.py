"""Notices a run that is failing, while most of its budget is still there.

| rule | evidence | action |
|---|---|---|
| loss_is_zero | a loss of exactly 0: every label is masked, or rows hold their own answers | abort |
| worse_than_uniform | after warm-up a mean loss above ln(vocabulary), that of blind guessing | abort |
| outlier_batch | one loss far above the median of late: its rows are named, the run heals by itself | warn |
| loss_spike | several such losses in a row | go back to a checkpoint, skip these batches |
| divergence | a mean loss far above its best, for long: a spike that going back did not cure | abort |
| unigram_plateau | a mean loss no better than token frequencies: the model uses no context | warn, then abort |
| fp16_overflow | a gradient too large for fp16 at this loss scale: the step was skipped | warn; at scale 1 abort |
| throughput_collapse | tokens a second at a fraction of the run's median: a rank swaps, throttles or waits | warn |
| validation_rises | a source's held-out loss above its best again and again: overfitting, or forgetting | warn |

Going back and skipping is what PaLM did about 20 times (Chowdhery et al. 2022, section 5.1,
https://arxiv.org/abs/2204.02311). Every decision on training is a function of losses that all ranks share, so ranks
never disagree, and a resumed run decides as one that was never interrupted.
"""

import math
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.sealing import how_it_ran

Action = Literal["warn", "roll_back", "abort"]

ROBUST_SIGMA = 1.4826  # of the median absolute deviation, for a normal distribution
PERSISTENT_STEPS = 5  # losses in a row that make a spike of outliers
HIDDEN_STEPS = 5  # an update shows its harm in the next loss, or some later: not trusted, before the first outlier
RECENT_STEPS = 20  # what a "mean loss" is taken over: of 0.2 nats between batches 0.04 are left
UNIFORM_NATS = 0.5  # above ln(vocabulary); a model at its start is up to 0.1 above it
SLOW_SECONDS = 60.0  # a machine that is busy for less is no collapse


class WatchdogRules(BaseModel):
    """How early the watchdog speaks. `python -m benchmarks.watchdog` counts false alarms of the defaults.

    What only ends a run, or speaks of the machine (`slow_share`), is no part of what a finished one is: those four may
    be loosened after an abort, and the same command goes on from the last checkpoint. The others choose batches, or
    are counted in what is sealed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    history_steps: int = Field(128, ge=32, description="Losses that a new one is compared with.")
    outlier_deviations: float = Field(8.0, gt=0, description="Robust deviations above the median that make an outlier.")
    outlier_nats: float = Field(0.5, gt=0, description="And at least so many nats: late losses hardly vary.")
    divergence_nats: float = how_it_ran(1.0, gt=0, description="Above the best mean loss, for `history_steps` steps.")
    plateau_share: float = Field(0.01, ge=0, lt=1, description="Below the unigram entropy by less than this.")
    plateau_steps: int = Field(200, ge=1, description="Earlier there is no plateau: the shortest runs end on one.")
    plateau_warn_share: float = Field(0.15, gt=0, le=1, description="Of the run; the plateau is named from here on.")
    plateau_abort_share: float = how_it_ran(1 / 3, gt=0, le=1, description="Of the run; a plateau until here ends it.")
    slow_share: float = how_it_ran(0.5, gt=0, lt=1, description="Of the median tokens a second, for a minute.")
    validation_rise: float = Field(0.03, gt=0, description="Above a source's best held-out loss; three times in a row.")
    max_rollbacks: int = how_it_ran(3, ge=0, description="Spikes that are rolled back; the next one ends the run.")


class Finding(NamedTuple):
    """What a rule saw, and what is to be done about it."""

    rule: str
    action: Action
    evidence: str


class Watchdog:
    """The rules of one run. `state` and `restore` carry what they remember through a checkpoint."""

    def __init__(
        self, rules: WatchdogRules, *, vocab_size: int, unigram_nats: float, steps: int, warmup_steps: int
    ) -> None:
        self.rules, self.steps = rules, steps
        self.uniform_nats, self.unigram_nats = math.log(vocab_size), unigram_nats
        self.settled = max(warmup_steps, RECENT_STEPS)  # before this a loss says nothing yet
        self.losses: deque[float] = deque(maxlen=rules.history_steps)
        self.best, self.above, self.outliers, self.rollbacks = math.inf, 0, 0, 0
        self.warned: set[str] = set()
        self.speeds: list[float] = []
        self.slow_seconds = 0.0
        self.best_validation: dict[str, float] = {}
        self.rises: dict[str, int] = {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold, as plain JSON. Speeds are not in it: another machine has others."""
        return {
            "losses": list(self.losses),
            "best": None if math.isinf(self.best) else self.best,
            "above": self.above,
            "outliers": self.outliers,
            "rollbacks": self.rollbacks,
            "warned": sorted(self.warned),
            "best_validation": self.best_validation,
            "rises": self.rises,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what a checkpoint holds. Rollbacks since then count on: they must come to an end."""
        self.losses.clear()
        self.losses.extend(state["losses"])
        self.best = math.inf if state["best"] is None else state["best"]
        self.above, self.outliers, self.warned = state["above"], state["outliers"], set(state["warned"])
        self.rollbacks = max(self.rollbacks, state["rollbacks"])
        self.best_validation, self.rises = dict(state["best_validation"]), dict(state["rises"])

    def after_step(self, step: int, loss: float) -> Finding | None:
        """What the loss of a step (counted from 0) says, the gravest thing first."""
        before = list(self.losses)
        self.losses.append(loss)
        if loss == 0.0:
            return self._abort(step, "loss_is_zero", "a loss of exactly 0: are all labels masked?")
        if len(before) < RECENT_STEPS or step < self.settled:
            return None
        found = self._outlier(step, before, loss)
        recent = fmean(list(self.losses)[-RECENT_STEPS:])  # without an outlier: that is judged by its own rule
        if found is None and recent > self.uniform_nats + UNIFORM_NATS:
            said = f"a mean loss of {recent:.2f} over {RECENT_STEPS} steps, {self.uniform_nats:.2f} by blind guessing"
            found = self._abort(step, "worse_than_uniform", f"{said}: the learning rate is far too high")
        found = found or self._diverged(step, recent) or self._plateau(step, recent)
        self.best = min(self.best, recent)
        return found

    def after_log(self, tokens_per_second: float, seconds: float) -> Finding | None:
        """What the speed of the last `seconds` says: each rank has its own, so it warns and decides nothing."""
        usual = median(self.speeds) if len(self.speeds) >= 5 else 0.0
        is_slow, slow_before = tokens_per_second < self.rules.slow_share * usual, self.slow_seconds
        if not is_slow:
            self.speeds.append(tokens_per_second)
        self.slow_seconds = slow_before + seconds if is_slow else 0.0
        if not slow_before < SLOW_SECONDS <= self.slow_seconds:
            return None
        said = (
            f"{tokens_per_second:,.0f} tokens a second for {self.slow_seconds:.0f} s; the run's median is {usual:,.0f}"
        )
        return Finding("throughput_collapse", "warn", said)

    def healthy_until(self, step: int) -> int:
        """The steps that were done before the spike which ends in `step` can have begun."""
        return step + 1 - self.outliers - HIDDEN_STEPS

    def after_validation(self, losses: Mapping[str, float]) -> list[Finding]:
        """What the held-out loss of each source says."""
        found = []
        for source, loss in losses.items():
            best = self.best_validation.setdefault(source, loss)
            self.best_validation[source] = min(best, loss)
            self.rises[source] = self.rises.get(source, 0) + 1 if loss > best * (1 + self.rules.validation_rise) else 0
            if self.rises[source] == 3:
                said = f"a held-out loss of {loss:.3f} on {source}, three times above its best of {best:.3f}"
                found.append(Finding("validation_rises", "warn", said))
        return found

    def _outlier(self, step: int, before: list[float], loss: float) -> Finding | None:
        middle = median(before[-RECENT_STEPS:])
        # Noise between batches, from differences of neighbours: a loss that falls fast has no noise for that.
        changes = [after - value for value, after in pairwise(before)]
        usual = median(changes)
        deviation = ROBUST_SIGMA * median(abs(change - usual) for change in changes) / math.sqrt(2)
        limit = middle + max(self.rules.outlier_deviations * deviation, self.rules.outlier_nats)
        if loss <= limit:
            self.outliers = 0
            return None
        self.losses.pop()  # what is far off must not become what is usual
        self.outliers += 1
        said = (
            f"a loss of {loss:.2f}, where up to {limit:.2f} is usual (median of the last {RECENT_STEPS}: {middle:.2f})"
        )
        if self.outliers == 1:
            return Finding("outlier_batch", "warn", said)
        if self.outliers < PERSISTENT_STEPS:
            return None
        said = f"{said}, {PERSISTENT_STEPS} steps in a row"
        if self.rollbacks >= self.rules.max_rollbacks:
            return self._abort(step, "loss_spike", f"{said}, after {self.rollbacks} rollbacks")
        self.rollbacks += 1
        return Finding("loss_spike", "roll_back", said)

    def _diverged(self, step: int, recent: float) -> Finding | None:
        self.above = self.above + 1 if recent > self.best + self.rules.divergence_nats else 0
        if self.above < self.rules.history_steps:
            return None
        said = f"a mean loss of {recent:.2f}, for {self.above} steps far above the best of {self.best:.2f}"
        return self._abort(step, "divergence", said)

    def _plateau(self, step: int, recent: float) -> Finding | None:
        share = (step + 1) / self.steps
        # Before, the mean still holds losses of the warm-up.
        if step + 1 < max(self.settled + RECENT_STEPS, self.rules.plateau_steps):
            return None
        if recent < (1 - self.rules.plateau_share) * self.unigram_nats or share < self.rules.plateau_warn_share:
            return None
        said = f"a mean loss of {recent:.2f} after {share:.0%} of the run, {self.unigram_nats:.2f} by token frequencies"
        if share >= self.rules.plateau_abort_share:
            return self._abort(step, "unigram_plateau", f"{said}. The model uses no context")
        if "unigram_plateau" in self.warned:
            return None
        self.warned.add("unigram_plateau")
        return Finding("unigram_plateau", "warn", said)

    def _abort(self, step: int, rule: str, said: str) -> Finding:
        return Finding(
            rule,
            "abort",
            f"{said} (step {step + 1} of {self.steps}: {1 - (step + 1) / self.steps:.0%} of the budget is saved)",
        )


def after_overflow(loss_scale: float) -> Finding:
    """What a step in fp16 says that was skipped: a gradient times the loss scale was more than 65,504."""
    said = f"a scaled gradient that fp16 cannot hold: the step was skipped, the loss scale is now {loss_scale:g}"
    return Finding("fp16_overflow", "abort" if loss_scale <= 1 else "warn", said)
