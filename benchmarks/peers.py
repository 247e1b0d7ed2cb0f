"""The promotion rules of others, re-implemented from their documentation, on counts of paired items."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import quantile, student_t

Booleans = NDArray[np.bool_]


class Counts(NamedTuple):
    """Per history and suite: both right, gained, lost, both wrong, of so many items."""

    sides: NDArray[np.int64]
    items: int
    margin: float
    alpha: float

    @property
    def gained(self) -> NDArray[np.int64]:
        return self.sides[..., 1]

    @property
    def lost(self) -> NDArray[np.int64]:
        return self.sides[..., 2]

    @property
    def candidate(self) -> NDArray[np.int64]:
        return self.sides[..., 0] + self.gained

    @property
    def live(self) -> NDArray[np.int64]:
        return self.sides[..., 0] + self.lost


class Said(NamedTuple):
    promoted: Booleans
    blocked: Booleans


def mean_is_higher(counts: Counts) -> Said:
    """`if latest_metric > current_metric: promote`, the metric being the mean over the suites.

    zenml-io/template-e2e-batch, template/steps/promotion/promote_metric_compare_promoter.py (commit e1c372e)
    """
    better = counts.candidate.sum(1) > counts.live.sum(1)
    return Said(better, ~better)


def unpaired_z(counts: Counts) -> Said:
    """Blocked where the mean over the suites is significantly lower by a two-proportion z-test, else promoted.

    The test of statsmodels' `proportions_ztest` (alternative="smaller"), which does not know that items are shared.
    """
    total = counts.items * counts.sides.shape[1]
    mine, theirs = counts.candidate.sum(1) / total, counts.live.sum(1) / total
    pooled = (mine + theirs) / 2
    z = (mine - theirs) / np.sqrt(2 * pooled * (1 - pooled) / total)
    worse = z < -quantile(counts.alpha)
    return Said(~worse, worse)


def mcnemar(counts: Counts) -> Said:
    """Blocked where an exact one-sided McNemar test finds any suite worse, at the level of one test; else promoted.

    NVIDIA NeMo Evaluator, docs/tutorials/compare.md (0.3.0): "McNemar's exact binomial test" for each benchmark.
    """
    worse = (_mcnemar_p(counts) <= counts.alpha).any(1)
    return Said(~worse, worse)


def holm_mcnemar(counts: Counts) -> Said:
    """The same with Holm's correction: its first step, the smallest p-value against alpha / suites, decides "any"."""
    worse = _mcnemar_p(counts).min(1) <= counts.alpha / counts.sides.shape[1]
    return Said(~worse, worse)


def nemo_interval(counts: Counts) -> Said:
    """A 95 % t-interval of each paired difference: PASS inside max_drop, BREACH beyond it, else INSUFFICIENT_EVIDENCE.

    GO where all pass, NO-GO where one breaches. NVIDIA-NeMo/Evaluator, docs/tutorials/quality-gate.md (`nel gate`);
    the interval and the three cases as in src/nemo_evaluator/engine/gate.py (commit 01b9028).
    """
    mean = (counts.gained - counts.lost) / counts.items
    variance = ((counts.gained + counts.lost) / counts.items - mean**2) * counts.items / (counts.items - 1)
    half = student_t(0.025, counts.items - 1) * np.sqrt(variance / counts.items)
    breach = (mean + half < -counts.margin).any(1)
    return Said((mean - half >= -counts.margin).all(1) & ~breach, breach)


def _mcnemar_p(counts: Counts) -> NDArray[np.float64]:
    """P(at most `gained` of the changed items are gains) where a change is as likely a gain as a loss."""
    most = int((counts.gained + counts.lost).max())
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    table = np.ones((most + 1, most + 1))
    for n in range(most + 1):
        k = np.arange(n + 1)
        table[n, : n + 1] = np.cumsum(np.exp(logs[n] - logs[k] - logs[n - k] - n * math.log(2)))
    return np.asarray(table[counts.gained + counts.lost, counts.gained])


PEERS: dict[str, Callable[[Counts], Said]] = {
    "mean is higher (ZenML template)": mean_is_higher,
    "unpaired z-test": unpaired_z,
    "McNemar, uncorrected": mcnemar,
    "McNemar, Holm": holm_mcnemar,
    "NeMo interval (nel gate)": nemo_interval,
}
