"""What a probe is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle.diagnosis.readings import Answer, Knob, Problem, Reading, Unmeasured
from lifecycle.diagnosis.records import Records

LONGEST_REASON = 300
ROOTS = {"pretrain": 1 / 3, "sft": 0.725}


@dataclass(frozen=True)
class Seen:
    """What a probe's function returns; the fields are those of `Reading`."""

    strength: float
    says: str
    seen: str
    source: str
    stage: str
    refuted_by: str
    failing: int | None = None
    examples: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()


@dataclass(frozen=True)
class Probe:
    """A function on a run's records, with its name and the problem it speaks for."""

    name: str
    problem: Problem
    look: Callable[[Records], Seen | str]

    def __call__(self, run: Records) -> Answer:
        about: dict[str, Any] = {"probe": self.name, "problem": self.problem}
        try:
            found = self.look(run)
        except Exception as error:  # what it reads may be of another version, or changed: it could not look
            return Unmeasured(**about, why=f"{type(error).__name__}: {error}"[:LONGEST_REASON])
        if isinstance(found, str):
            return Unmeasured(**about, why=found)
        return Reading(**about, **{**vars(found), "strength": round(found.strength, 4)})


def probe(problem: Problem) -> Callable[[Callable[[Records], Seen | str]], Probe]:
    """Make a probe of a function."""
    return lambda look: Probe(look.__name__, problem, look)


def suiting_rate(run: Records, stage: str) -> float | None:
    """A learning rate that suits the size of what a stage trained; None where that is not known.

    3e-3 for a million weights. Pretraining: GPT-3's 6e-4 at 125M and about 1e-4 at 10B (Brown et al. 2020, table 2.1),
    a cube root. SFT: 2e-5 at a billion (`SftConfig.learning_rate`).
    """
    weights = run.parameters(stage)
    if stage not in ROOTS or not weights:
        return None
    return float(f"{3e-3 * min(1.0, (1e6 / weights) ** ROOTS[stage]):.2g}")


def higher_rate(run: Records, stage: str) -> tuple[Knob, ...]:
    """The rate that suits, where the one that was taken is less than a fifth of it. It costs nothing more."""
    rate, suiting = run.config(stage).get("learning_rate"), suiting_rate(run, stage)
    if not rate or not suiting or rate > suiting / 5:
        return ()
    return (
        knob(
            run,
            stage,
            f"the learning rate that suits its size: {suiting:g}, not {rate:g}",
            f"{stage}.learning_rate={suiting:g}",
        ),
    )


def knob(run: Records, stage: str, change: str, *settings: str, times: float = 1.0) -> Knob:
    """A change at a stage, priced by what that stage and all below it took in this run."""
    return Knob(change=change, settings=settings, stage=stage, times=times, seconds=run.seconds_from(stage, times))
