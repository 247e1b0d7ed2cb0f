"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math
from typing import Literal

Schedule = Literal["cosine", "wsd", "linear"]

DECAY_SHARE = 0.2  # of a wsd run; Hägele et al. 2024 (https://arxiv.org/abs/2405.18392, section 4) find 10-20 % enough


def learning_rate(
    step: int, *, steps: int, peak: float, warmup_steps: int, schedule: Schedule, final_share: float
) -> float:
    """The rate used in `step` (0-based): a linear warm-up to `peak`, then down to `final_share` of it at the end.

    cosine: half a wave (Loshchilov & Hutter 2017, eq. 5). linear: a line. wsd: flat, then a line over the last fifth.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps - 1)
    match schedule:
        case "cosine":
            height = (1 + math.cos(math.pi * done)) / 2
        case "linear":
            height = 1 - done
        case "wsd":
            height = min(1.0, (1 - done) / DECAY_SHARE)
    return peak * (final_share + (1 - final_share) * height)
