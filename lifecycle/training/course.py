"""What a training after pretraining remembers of its steps, and how its state is handed to checkpoints."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lifecycle.training.post import EarlyStopping


@dataclass
class Course:
    """What happened so far: all that a checkpoint holds beside tensors and random numbers."""

    losses: list[float] = field(default_factory=list)
    """Of each step, over all ranks."""
    tokens: int = 0
    """That all ranks trained on, padding not counted."""
    logged: int = 0
    """Steps whose loss was written."""
    judged: list[tuple[int, float]] = field(default_factory=list)
    """Step, and what was measured on held-out rows; lower is better."""
    drift: dict[str, float] = field(default_factory=dict)
    """Measured before the first step, where drift is watched: what later steps are held against."""
    stopped: str = ""
    """The rule that ended the training before its last step, and why."""

    def loss_since_logged(self) -> float:
        """Mean loss of the steps that were not written yet."""
        since, self.logged = self.losses[self.logged :], len(self.losses)
        return sum(since) / len(since)

    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps: one step is noise."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return round(sum(last) / len(last), 6)

    def best_step(self) -> int:
        """The first of the steps that were best on held-out rows."""
        return min(self.judged, key=lambda one: one[1])[0]

    def is_over(self, early: EarlyStopping | None) -> bool:
        """Whether a rule ended it, or held-out rows have not got better for as long as we wait."""
        if self.stopped:
            return True
        if early is None or not self.judged:
            return False
        return sum(step > self.best_step() for step, _ in self.judged) >= early.patience


class PlainEngine(NamedTuple):
    """A model and its optimizer as `training.fragments` takes them, where DeepSpeed has no part in it."""

    module: Any
    basic_optimizer: Any

    @property
    def optimizer(self) -> Any:
        return self.basic_optimizer

    def zero_optimization_stage(self) -> int:
        return 0

    def fp16_enabled(self) -> bool:
        return False
