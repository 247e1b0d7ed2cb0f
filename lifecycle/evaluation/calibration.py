"""Whether a judge's confidence can be believed: of the pairs it is 80 % sure of, it should have 80 % right.

Standard library and numpy only. # N pairs, M bins, R resamples
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import wilson

Reals = NDArray[np.float64]

BINS = 10
RESAMPLES = 2_000
TAIL = 0.025


class Bin(NamedTuple):
    """Pairs of like confidence."""

    pairs: int
    confidence: float
    right: float


class Calibration(NamedTuple):
    """How often a judge is right, and how far its confidence is from that."""

    pairs: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    ece: float
    """Expected calibration error: Guo et al. 2017, eq. 3, https://arxiv.org/abs/1706.04599. 0 is perfect."""
    ece_low: float
    ece_high: float
    ece_by_chance: float
    """What 97.5 % of judges with these confidences stay below that are calibrated perfectly: noise is no fault."""
    bins: list[Bin]

    def as_data(self) -> dict[str, Any]:
        return {**self._asdict(), "bins": [one._asdict() for one in self.bins]}


def calibration(margins: Sequence[float], *, seed: int = 0) -> Calibration:
    """Of a judge that gave these margins, reward of the chosen answer minus reward of the rejected one, to N pairs.

    Its confidence in a pair is sigmoid(|margin|), the Bradley-Terry probability of the answer it prefers; it is right
    where the margin is above 0, half right where it is 0. Intervals are of 95 %, that of the error by bootstrap.
    """
    margin_N = np.asarray(margins, np.float64)
    confidence_N = 1 / (1 + np.exp(-np.abs(margin_N)))
    right_N = (np.sign(margin_N) + 1) / 2
    bin_N = np.minimum(((confidence_N - 0.5) * 2 * BINS).astype(int), BINS - 1)
    draws = np.random.default_rng(seed)
    picked_RN = draws.integers(len(margin_N), size=(RESAMPLES, len(margin_N)))
    error_R = _errors(confidence_N[picked_RN], right_N[picked_RN], bin_N[picked_RN])
    chance_RN = (draws.random((RESAMPLES, len(margin_N))) < confidence_N).astype(float)
    like = (RESAMPLES, len(margin_N))
    chance_R = _errors(np.broadcast_to(confidence_N, like), chance_RN, np.broadcast_to(bin_N, like))
    share = wilson(float(right_N.sum()), len(right_N), tail=TAIL)
    members = [bin_N == number for number in range(BINS)]
    return Calibration(
        pairs=len(margin_N),
        accuracy=float(right_N.mean()),
        accuracy_low=share.low,
        accuracy_high=share.high,
        ece=float(_errors(confidence_N[None], right_N[None], bin_N[None])[0]),
        ece_low=float(np.quantile(error_R, TAIL)),
        ece_high=float(np.quantile(error_R, 1 - TAIL)),
        ece_by_chance=float(np.quantile(chance_R, 1 - TAIL)),
        bins=[Bin(int(m.sum()), float(confidence_N[m].mean()), float(right_N[m].mean())) for m in members if m.any()],
    )


def _errors(confidence_RN: Reals, right_RN: Reals, bin_RN: NDArray[np.int64]) -> Reals:
    """The expected calibration error of each resample, (R,)."""
    gap_RN = right_RN - confidence_RN
    gaps = [np.abs(np.where(bin_RN == number, gap_RN, 0).sum(1)) for number in range(BINS)]
    return np.asarray(sum(gaps) / bin_RN.shape[1])


def length_alone(train: Sequence[tuple[int, int]], heldout: Sequence[tuple[int, int]]) -> float:
    """Share of held-out pairs that length alone gets right, in the direction it says on training pairs.

    A pair is the lengths of the chosen and of the rejected answer; equal lengths are half right. A reward model that
    is not clearly better than this may have learned nothing else.
    """
    sign = 1 if _shorter_wins(train) >= 0.5 else -1
    found = _shorter_wins(heldout)
    return found if sign > 0 else 1 - found


def _shorter_wins(pairs: Sequence[tuple[int, int]]) -> float:
    return sum((chosen < rejected) + (chosen == rejected) / 2 for chosen, rejected in pairs) / len(pairs)
