"""From readings to an answer: a noisy-or for each problem, in which what was seen earlier explains what was seen later.

    doubt(problem)  = product over its readings of (1 - weight * strength * unexplained)
    unexplained     = 1 - the strongest weight * strength of another problem, seen earlier in the chain
    odds(problem)   = (1 - doubt) / doubt,   odds(healthy) = a constant, a smaller one where the run did not end well;
    probabilities are odds over their sum

A base that cannot read makes SFT fail, and SFT that failed makes preferences fail: each is a reading of its own, and
only the first is news. Noisy-or: Pearl 1988, "Probabilistic reasoning in intelligent systems", section 4.3.2. A probe's
weight, between 0 and 1, is how far its plainest reading convinces alone. `python -m benchmarks.diagnosis --fit` drew
those in `weights.json` from .9, which all others have, towards what the tuning half of the fault bench shows.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.diagnosis.comparison import Comparison, weighed
from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import PROBLEMS, Answer, Knob, Problem, Reading, Unmeasured
from lifecycle.diagnosis.records import Records

HEALTHY: Literal["healthy"] = "healthy"
WEIGHTS = Path(__file__).with_name("weights.json")
CERTAIN = 0.995  # no reading convinces more than this: odds stay finite

ENDED_WELL = ("COMPLETED", "RELEASED", "AWAITING_APPROVAL", "RUNNING")

CHAIN = (
    "base",
    "corpus",
    "tokenizer",
    "shards",
    "pretrain",
    "demonstrations",
    "sft",
    "comparisons",
    "reward",
    "preference",
    "suites",  # they hold what is asked at the end: a wrong answer key spoils no training
    "evaluate",
    "gate",
)
"""The order in which one thing can be the cause of another."""

DEPTH = {"runtime": 0, "protocol": 1}
"""What shows at one stage: the lower is the cause of the higher. All other problems have 2."""


class Weights(BaseModel):
    """What the fault bench fits."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    healthy_odds: float = Field(gt=0, description="Against these a problem must stand.")
    failed_odds: float = Field(
        0.1,
        gt=0,
        description="The same in a run that did not end well. Not fitted: the bench has no healthy run that did not, "
        "and at 0 nobody would hear that no cause is known.",
    )
    probes: dict[str, float] = Field(description="By probe; one that is not there counts `other`.")
    other: float = Field(0.9, ge=0, le=1)

    def of(self, reading: Reading) -> float:
        """How far a reading convinces."""
        return self.probes.get(reading.probe, self.other) * reading.strength


class Ranked(BaseModel):
    """One of the six, or healthy, with what speaks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    problem: Problem | Literal["healthy"]
    probability: float
    stage: str | None = Field(description="The stage to change: what shows first of all that convinces names it.")
    readings: tuple[Reading, ...] = Field(description="Those that saw something, the most convincing first.")
    knobs: tuple[Knob, ...] = Field(description="What to change: at that stage, then elsewhere, the cheapest first.")


class Diagnosis(BaseModel):
    """A ranked answer. What could not be looked at is listed, and counts for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    state: str
    message: str
    failing: int = Field(description="Measured answers that were wrong.")
    asked: int
    ranking: tuple[Ranked, ...]
    clear: tuple[Reading, ...] = Field(description="Probes that looked and saw nothing.")
    unmeasured: tuple[Unmeasured, ...]

    @property
    def first(self) -> Ranked:
        return self.ranking[0]


def diagnose(run: Records, weights: Weights | None = None, comparison: Comparison | None = None) -> Diagnosis:
    """Every probe's reading of a run, held against another run where one is given, and what they speak for."""
    answers: Sequence[Answer] = [probe(run) for probe in PROBES]
    answers = answers if comparison is None else weighed(answers, comparison)
    measured = [item.score for item in run.items if item.mode == "greedy" and item.score is not None]
    return Diagnosis(
        run=run.run.name,
        state=run.state,
        message=run.message,
        failing=measured.count(0),
        asked=len(measured),
        ranking=ranking(answers, weights or fitted(), run.state),
        clear=tuple(each for each in answers if isinstance(each, Reading) and not each.strength),
        unmeasured=tuple(each for each in answers if isinstance(each, Unmeasured)),
    )


def ranking(answers: Sequence[Answer], weights: Weights, state: str = "COMPLETED") -> tuple[Ranked, ...]:
    """The six problems and healthy by their probability; what was not measured speaks for nobody.

    `state` is how the run ended: one that was blocked or failed is hardly healthy, whatever no probe saw.
    """
    seen = [each for each in answers if isinstance(each, Reading) and each.strength]
    convincing = {each.probe: weights.of(each) * unexplained(each, seen, weights) for each in seen}
    well = weights.healthy_odds if state in ENDED_WELL else weights.failed_odds
    odds: dict[Problem | Literal["healthy"], float] = {HEALTHY: well}
    for problem in PROBLEMS:
        doubt = math.prod(1 - convincing[each.probe] for each in seen if each.problem == problem)
        odds[problem] = (1 - max(doubt, 1 - CERTAIN)) / max(doubt, 1 - CERTAIN)
    total = sum(odds.values())
    ranked = []
    for name in sorted(odds, key=odds.__getitem__, reverse=True):
        mine = sorted((r for r in seen if r.problem == name), key=lambda r: convincing[r.probe], reverse=True)
        strong = [reading for reading in mine if convincing[reading.probe] >= convincing[mine[0].probe] / 2]
        # Among those that convince it is what shows first in the chain: below it nothing can be mended.
        first = min(strong, key=_place).stage if strong else None
        ranked.append(
            Ranked(
                problem=name,
                probability=round(odds[name] / total, 4),
                stage=first,
                readings=tuple(mine),
                knobs=_cheapest(mine, first),
            )
        )
    return tuple(ranked)


def unexplained(reading: Reading, seen: Sequence[Reading], weights: Weights) -> float:
    """What is left of a reading once another problem, seen earlier in the chain, is taken for its cause."""
    earlier = (weights.of(other) for other in seen if other.problem != reading.problem and _explains(other, reading))
    return 1 - max(earlier, default=0.0)


def _explains(other: Reading, reading: Reading) -> bool:
    """Whether one can be the cause of the other: seen earlier, or at one stage deeper in how it works.

    A training that broke is the cause of all its stage shows, and tokens the loss left out of what was not learned.
    """
    return (_place(other), DEPTH.get(other.problem, 2)) < (_place(reading), DEPTH.get(reading.problem, 2))


@cache
def fitted() -> Weights:
    """The weights that ship."""
    return Weights.model_validate(json.loads(WEIGHTS.read_text()))


def _place(reading: Reading) -> int:
    return _order(reading.seen)


def _order(stage: str) -> int:
    """A stage's place in the chain; what is not in it comes last, and causes nothing."""
    return CHAIN.index(stage) if stage in CHAIN else len(CHAIN)


def _cheapest(readings: Sequence[Reading], first: str | None) -> tuple[Knob, ...]:
    """Each change once: those of the stage `first`, then others; the cheapest first, of unknown price last."""
    knobs = {knob.change: knob for reading in reversed(readings) for knob in reading.knobs}

    def order(knob: Knob) -> tuple[bool, float]:
        return knob.stage != first, math.inf if knob.seconds is None else knob.seconds

    return tuple(sorted(knobs.values(), key=order))
