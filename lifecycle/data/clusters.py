"""Pairs of duplicates to clusters, and which document of a cluster stays."""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

BLOCK = 2**16


def join_pairs(parents: I64, left: I64, right: I64) -> None:
    """Join the clusters of each pair; the smaller index becomes the root, whatever the order of the pairs.

    Union-find with path halving (Tarjan and van Leeuwen 1984). Plain Python, and also compiled as it stands.
    """
    for pair in range(len(left)):
        a, b = left[pair], right[pair]
        while parents[a] != a:
            parents[a] = parents[parents[a]]
            a = parents[a]
        while parents[b] != b:
            parents[b] = parents[parents[b]]
            b = parents[b]
        if a < b:
            parents[b] = a
        else:
            parents[a] = b


def roots_of(parents: I64, members: I64) -> I64:
    """The smallest index in the cluster of each member."""
    roots = parents[members]
    while (further := parents[roots] != roots).any():
        roots[further] = parents[roots[further]]
    return roots


def flatten(parents: I64) -> None:
    """Point every member straight at its root, in place and a block at a time."""
    for start in range(0, len(parents), BLOCK):
        block = parents[start : start + BLOCK]
        block[:] = roots_of(parents, block)


def kept_of_each(cluster: I64, lengths: I64) -> I64:
    """For each document the one that stays of its cluster: the longest, and the first of several as long."""
    kept = np.arange(len(cluster))
    copies = np.flatnonzero(cluster != kept)
    members = np.union1d(copies, cluster[copies])
    by_merit = members[np.lexsort((members, -lengths[members], cluster[members]))]
    roots, best = np.unique(cluster[by_merit], return_index=True)
    kept[members] = by_merit[best[np.searchsorted(roots, cluster[members])]]
    return kept
