"""Error rates on shapes that no constant was chosen on: how often a guard on a mean is shown to hold at its very bar.

`statistics.cautious` was chosen on log-probabilities of one model (`gate.likelihoods`). The pools here are other ones,
drawn with another seed: skewed, heavy-tailed, and losses that few items carry.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.histories import ALPHA, MARGIN, judged_scores, picked, planned

POOL = 400_000
SPREAD = 0.2  # of one item's change, where the margin is 0.05
STILL = 1e-3  # of a standard deviation: how much items move that are said not to
Shape = Callable[[np.random.Generator], NDArray[Any]]


def few(share: float, still: float = STILL) -> Shape:
    """Items that lose all the same, on this share of them; the others hardly move."""
    return lambda draw: still * draw.normal(size=POOL) - (draw.random(POOL) < share)


SHAPES: dict[str, Shape] = {
    "normal": lambda draw: draw.normal(size=POOL),
    "exponential losses": lambda draw: -draw.exponential(size=POOL),
    "exponential gains": lambda draw: draw.exponential(size=POOL),
    "gamma losses, shape 0.5": lambda draw: -draw.gamma(0.5, size=POOL),
    "log-normal losses": lambda draw: -np.exp(draw.normal(size=POOL)),
    "t, 3 degrees of freedom": lambda draw: draw.standard_t(3, size=POOL),
    "1 item of 10 loses": few(0.1),
    "1 item of 20 loses": few(0.05),
    "1 item of 100 loses": few(0.01),
    "1 item of 100 loses, the others move": few(0.01, 0.1),
}


def shapes(histories: int, draw: np.random.Generator) -> list[dict[str, Any]]:
    """One row a shape: with bounds and without, over 20 looks and at one."""
    rows: list[dict[str, Any]] = []
    for name, shape in SHAPES.items():
        pool = shape(draw)
        pool = SPREAD * (pool - pool.mean()) / pool.std() - MARGIN
        row: dict[str, Any] = {"table": "shapes", "shape": name, "stated": ALPHA}
        for bounded in (True, False):
            some = np.clip(pool, -1, 1) if bounded else pool
            margin = -float(some.mean())  # at the bar, whatever was cut off
            for looks in (20, 1):
                bounds = (-MARGIN / margin, MARGIN / margin) if bounded else None
                design = planned(looks=looks, spread=float(some.std()) * MARGIN / margin, pairs=False, bounds=bounds)
                held = judged_scores(design, picked(design, some, histories, draw), margin, bounded=bounded).held
                kind = f"{'within -1 and 1' if bounded else 'without bounds'}, {looks} look{'s' * (looks > 1)}"
                row[kind] = float((held < looks).mean())
                row[f"{kind}: items"] = design.items
        rows.append({**row, "2 se": 2 * math.sqrt(ALPHA * (1 - ALPHA) / histories)})
    return rows
