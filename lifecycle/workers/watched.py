"""Drift of a policy that learns from its own answers: measured now and then, and the best step before it went wrong."""

from collections.abc import Sequence
from typing import Any

import torch

from lifecycle.chat.examples import Comparison
from lifecycle.chat.render import Renderer
from lifecycle.errors import WorkerFailed
from lifecycle.stages.online import OnlineJob
from lifecycle.training.course import Course
from lifecycle.training.drift import DriftPolicy
from lifecycle.workers import policy
from lifecycle.workers.drift import DriftWatch
from lifecycle.workers.job import Recorder
from lifecycle.workers.pairs import both_answers
from lifecycle.workers.policy import Reference
from lifecycle.workers.rollout import Answer, as_batch, unfilled

AT_ONCE = 64
FAULTY = 1e9  # what a step is judged that broke a rule: never the best


class Watched:
    """Holds a policy to the rules of `training.drift`, on held-out pairs and samples."""

    def __init__(
        self,
        job: OnlineJob,
        rules: DriftPolicy,
        renderer: Renderer,
        heldout: Sequence[Comparison],
        reference: Reference,
        recorder: Recorder,
    ) -> None:
        self.rules, self.recorder = rules, recorder
        self.pairs = sorted(heldout, key=lambda row: row.length)
        self.watch = DriftWatch(job, rules, renderer, both_answers(self.pairs), recorder)
        with reference.speaking() as model:
            self.known = self._sums(model)

    def is_time(self, step: int, steps: int) -> bool:
        return step % self.rules.every_steps == 0 or step == steps

    def measure(self, model: Any, step: int) -> dict[str, float]:
        """Everything the rules name, after `step`."""
        moved = [now - then for now, then in zip(self._sums(model), self.known, strict=True)]
        margins = [chosen - rejected for chosen, rejected in zip(moved[::2], moved[1::2], strict=True)]
        a_token = [one / len(pair.chosen_ids) for one, pair in zip(moved[::2], self.pairs, strict=True)]
        return self.watch.measure(model, step, margins, a_token)

    def judge(self, course: Course, model: Any, step: int) -> float:
        """What the best step goes by, lower is better: its contract score, or else that it is the latest healthy one.

        A broken rule is written to the findings and ends the training, which `course` remembers.
        """
        measured = self.measure(model, step)
        if broken := self.watch.broken(course.drift, measured):
            self.recorder.finding(step, *broken)
            said = f"{broken.rule} after step {step}: {broken.evidence}"
            if broken.action == "refuse":
                raise WorkerFailed(
                    f"expected a reward that held-out pairs agree with, found {said}. Look at the labels."
                )
            course.stopped = said
            return FAULTY
        return -measured.get("contract", 0.0) - 1e-9 * step

    @torch.no_grad()
    def _sums(self, model: Any) -> list[float]:
        """ln p of the chosen and the rejected answer of each held-out pair, in turn."""
        answers = [
            Answer(row.prompt_ids, list(ids), True, [])
            for row in self.pairs
            for ids in (row.chosen_ids, row.rejected_ids)
        ]
        found: list[float] = []
        for start in range(0, len(answers), AT_ONCE):
            batch = as_batch(answers[start : start + AT_ONCE])
            found += [sum(one) for one in unfilled(policy.log_probabilities(model, batch)[0], batch.mask)]
        return found


def best_of(course: Course) -> int:
    """The step whose weights are kept of a training that a rule ended."""
    if not course.judged or min(value for _, value in course.judged) >= FAULTY:
        raise WorkerFailed(
            f"expected a step that keeps the rules of preference.drift, found {course.stopped}, and none before it was "
            "measured. Nothing is kept; raise preference.kl_coefficient, or measure more often (drift.every_steps)."
        )
    return course.best_step()
