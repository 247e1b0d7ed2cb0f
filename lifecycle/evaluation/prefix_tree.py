"""Rows of ids as a tree: what several begin with is there once, so a model reads it once, and nothing is padded.

The tree is flat: nodes are tokens in depth-first order, and a row is the path of nodes from its first id to its last.
Zheng et al. 2023, "SGLang" (RadixAttention), https://arxiv.org/abs/2312.07104, section 3, within one batch.

# B rows, N nodes, S tokens of a row
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int]
Numbers = NDArray[np.int64]

MIN_SHARED = 8  # tokens; what shares fewer is read as a row of its own, which plain causal attention does


@dataclass(frozen=True)
class Tree:
    """Nodes and paths. `branches` is the order in which rows were added: each brings the nodes that it shares not."""

    ids: Numbers
    """(N,)"""
    at: Numbers
    """(N,): the position of each node in its rows."""
    paths: Numbers
    """(B, S): the nodes of each row; behind its end its last node again."""
    lengths: Numbers
    """(B,)"""
    branches: "list[Branch]"


@dataclass(frozen=True)
class Branch:
    """What one row adds: the nodes from `first` to before `last`, at the positions from `begin` on."""

    row: int
    begin: int
    first: int
    last: int


def tree_of(rows: Sequence[Ids]) -> Tree:
    """The tree of these rows, none of which is empty. Groups that begin alike stay together, the longest rows first."""
    length_B = np.fromiter(map(len, rows), np.int64, len(rows))
    path_BS = np.empty((len(rows), int(length_B.max())), np.int64)
    branches: list[Branch] = []
    nodes, ids, at = 0, [], []
    for group in _groups(rows):
        before = -1
        for row, begin in group:
            new = int(length_B[row]) - begin
            path_BS[row, :begin] = path_BS[before, :begin]
            path_BS[row, begin : begin + new] = np.arange(nodes, nodes + new)
            path_BS[row, begin + new :] = path_BS[row, begin + new - 1]
            ids.append(np.asarray(rows[row][begin:], np.int64))
            at.append(np.arange(begin, begin + new))
            branches.append(Branch(row, begin, nodes, nodes + new))
            nodes, before = nodes + new, row
    return Tree(np.concatenate(ids), np.concatenate(at), path_BS, length_B, branches)


def _groups(rows: Sequence[Ids]) -> list[list[tuple[int, int]]]:
    """Rows with the number of tokens each shares with the row before it in its group."""
    groups: list[list[tuple[int, int]]] = []
    before: Ids = ()
    for row in sorted(range(len(rows)), key=lambda row: tuple(rows[row])):
        begin = shared(before, rows[row])
        if begin < MIN_SHARED:
            groups.append([(row, 0)])
        else:
            groups[-1].append((row, begin))
        before = rows[row]
    return sorted(groups, key=lambda group: -max(len(rows[row]) for row, _ in group))


def shared(one: Ids, other: Ids) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def portions(branches: Sequence[Branch], size: int | None) -> Iterator[list[Branch]]:
    """Branches in their order, so many at a time that they bring about `size` nodes; None: all at once."""
    some: list[Branch] = []
    for branch in branches:
        if some and size is not None and branch.last - some[0].first > size:
            yield some
            some = []
        some.append(branch)
    if some:
        yield some
