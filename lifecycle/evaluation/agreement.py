"""What people's choices between two answers say: how far they agree, and which system wins. Numpy only.

Intervals are at 95 %. Votes on one prompt are not independent, so prompts are resampled, never single votes.

# U units (items that several people judged), C categories, P prompts, S systems, R resamples
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.evaluation.statistics import clopper_pearson, wilson

TAIL = 0.025
RESAMPLES = 1000
ROUNDS = 500  # of the fixed point below; three systems of 100 votes settle in 30
SETTLED = 1e-9

Numbers = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number with its interval, and how many independent observations it stands on. None: it was not measured."""

    value: float | None
    low: float | None
    high: float | None
    of: int


def unmeasured(of: int = 0) -> Estimate:
    """Nothing is known: too few votes, or all alike, which leaves nothing to compare chance with."""
    return Estimate(None, None, None, of)


def share(right: int, of: int) -> Estimate:
    """How often something happened among independent trials, with Clopper and Pearson's interval."""
    return unmeasured() if of == 0 else Estimate(right / of, *clopper_pearson(right, of, tail=TAIL), of)


def share_of_clusters(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """The mean over clusters of their mean value in [0, 1], with Wilson's interval for that many clusters.

    A mean of a cluster varies at most as much as a single yes or no does, so the interval is on the safe side.
    """
    if not values:
        return unmeasured()
    means = _means(np.asarray(values, float), clusters)
    return Estimate(float(means.mean()), *wilson(float(means.sum()), len(means), tail=TAIL), len(means))


def krippendorff_alpha(counts_UC: Any, *, seed: int = 0) -> Estimate:
    """Agreement beyond chance on nominal categories: 1 is full agreement, 0 what chance gives.

    `counts_UC[u, c]` is how many people put unit u into category c; a unit with one judgement says nothing and is left
    out. Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C with the nominal metric:
    alpha = 1 - (n - 1) sum_u (m_u^2 - sum_c n_uc^2) / (m_u - 1) / (n^2 - sum_c n_c^2). The interval resamples units:
    Zapf et al. 2016, BMC Medical Research Methodology 16:93. Unmeasured with one category or fewer than two units;
    without an interval where every resample is alike, as with full agreement.
    """
    counts_UC = np.asarray(counts_UC, float)
    counts_UC = counts_UC[counts_UC.sum(1) >= 2] if counts_UC.size else np.zeros((0, 1))
    units = len(counts_UC)
    if units < 2 or np.count_nonzero(counts_UC.sum(0)) < 2:
        return unmeasured(units)
    judged_U = counts_UC.sum(1)
    disagreement_U = (judged_U**2 - (counts_UC**2).sum(1)) / (judged_U - 1)

    def alpha(weights_RU: Numbers) -> Numbers:
        totals_RC = weights_RU @ counts_UC
        n_R = totals_RC.sum(1)
        chance_R = (n_R**2 - (totals_RC**2).sum(1)) / (n_R - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - (weights_RU @ disagreement_U) / chance_R)

    resampled = alpha(_weights(units, seed))
    resampled = resampled[np.isfinite(resampled)]  # those that drew one category only compare with no chance
    low, high = np.quantile(resampled, [TAIL, 1 - TAIL])
    value = float(alpha(np.ones((1, units)))[0])
    return Estimate(value, None, None, units) if low == high else Estimate(value, float(low), float(high), units)


def win_rates(
    pairs: Sequence[tuple[int, int, float]], prompts: Sequence[str], *, systems: int, seed: int = 0
) -> list[Estimate]:
    """For each system the chance that it is preferred to another one, drawn evenly, by the Bradley-Terry model.

    A pair (i, j, w) is one vote: w = 1 prefers i, 0 prefers j, 0.5 neither. Strengths are the maximum of the likelihood
    by the fixed point of Hunter 2004, Annals of Statistics 32:384-406, eq. 3, after half a win for both sides of every
    two systems that met: one that always won has a finite strength. Prompts are resampled; where nobody ever disagreed
    that shows no width, so each end is at least as far out as Wilson's on the same prompts. All are unmeasured where
    votes do not connect the systems: two groups that never met have no common scale.
    """
    names, number_P = np.unique(np.asarray(prompts, str), return_inverse=True)
    wins_PSS = np.zeros((len(names), systems, systems))
    for (i, j, won), prompt in zip(pairs, number_P, strict=True):
        wins_PSS[prompt, i, j] += won
        wins_PSS[prompt, j, i] += 1 - won
    met = (wins_PSS + wins_PSS.transpose(0, 2, 1)).sum(0) > 0
    if systems < 2 or not np.all(np.linalg.matrix_power(met + np.eye(systems), systems) > 0):
        return [unmeasured(len(names))] * systems
    flat_PX = wins_PSS.reshape(len(names), -1)

    def rates(weights_RP: Numbers) -> Numbers:
        return _bradley_terry((weights_RP @ flat_PX).reshape(-1, systems, systems) + met / 2)

    values, resampled = rates(np.ones((1, len(names))))[0], rates(_weights(len(names), seed))
    found = []
    for system in range(systems):
        low, high = np.quantile(resampled[:, system], [TAIL, 1 - TAIL])
        taken = [number for number, (i, j, _) in enumerate(pairs) if system in (i, j)]
        scored = [pairs[n][2] if pairs[n][0] == system else 1 - pairs[n][2] for n in taken]
        plain = share_of_clusters(scored, [prompts[n] for n in taken])
        assert plain.low is not None
        assert plain.high is not None
        ends = min(float(low), plain.low), max(float(high), plain.high)
        found.append(Estimate(float(values[system]), *ends, plain.of))
    return found


def _bradley_terry(wins_RSS: Numbers) -> Numbers:
    """(R, S): each system's mean chance against the others at the strengths that fit these wins best."""
    games_RSS = wins_RSS + wins_RSS.transpose(0, 2, 1)
    won_RS = wins_RSS.sum(2)
    strength_RS = np.ones(won_RS.shape)
    systems = strength_RS.shape[1]
    for _ in range(ROUNDS):
        before = strength_RS
        strength_RS = won_RS / (games_RSS / (before[:, :, None] + before[:, None, :])).sum(2)
        strength_RS = strength_RS / strength_RS.mean(1, keepdims=True)
        if np.max(np.abs(strength_RS - before)) < SETTLED:
            break
    chance_RSS = strength_RS[:, :, None] / (strength_RS[:, :, None] + strength_RS[:, None, :])
    return np.asarray((chance_RSS.sum(2) - 0.5) / (systems - 1))


def _weights(units: int, seed: int) -> Numbers:
    """(R, units): how often each unit is drawn in each resample."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=RESAMPLES).astype(float)


def _means(values: Numbers, clusters: Sequence[str]) -> Numbers:
    _, number = np.unique(np.asarray(clusters, str), return_inverse=True)
    return np.asarray(np.bincount(number, values) / np.bincount(number))
