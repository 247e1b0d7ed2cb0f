"""The bins that lengths and scores of documents are counted in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Half octaves of characters, up to 32 million.
LENGTH_EDGES = [round(2 ** (half / 2), 2) for half in range(51)]
SCORE_BINS = 20
SCORE_EDGES = [step / SCORE_BINS for step in range(SCORE_BINS + 1)]
NO_SCORE = SCORE_BINS  # the bin of a document that nobody scored


def count_lengths(characters: NDArray[np.integer] | Sequence[int]) -> NDArray[np.int64]:
    """Documents by length; what is longer than the last edge is in the last bin."""
    inside = np.clip(np.asarray(characters, np.float64), LENGTH_EDGES[0], LENGTH_EDGES[-1])
    return np.histogram(inside, LENGTH_EDGES)[0].astype(np.int64)


def score_bin(score: float) -> int:
    return min(int(score * SCORE_BINS), SCORE_BINS - 1)


def count_scores(bins: NDArray[np.integer] | Sequence[int]) -> NDArray[np.int64]:
    """Documents by the bin of their score; those without one are not counted."""
    return np.bincount(np.asarray(bins, np.int64), minlength=NO_SCORE + 1)[:SCORE_BINS].astype(np.int64)
