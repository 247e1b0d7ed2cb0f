"""A tree of rows gives every row back, holds what they share once, and reads nothing before what it follows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.evaluation.prefix_tree import MIN_SHARED, portions, tree_of

ROWS = st.lists(
    st.builds(
        lambda prefix, rest: [*[0] * prefix, *rest],
        st.integers(0, 20),
        st.lists(st.integers(0, 2), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=20,
)


@given(ROWS)
def test_every_row_is_a_path(rows):
    tree = tree_of(rows)
    for row, path, length in zip(rows, tree.paths, tree.lengths, strict=True):
        assert tree.ids[path[:length]].tolist() == row
        assert tree.at[path[:length]].tolist() == list(range(len(row)))
        assert (path[length:] == path[length - 1]).all()


@given(ROWS)
def test_each_node_is_brought_by_one_branch_and_stands_behind_the_nodes_it_follows(rows):
    tree = tree_of(rows)
    assert [n for b in tree.branches for n in range(b.first, b.last)] == list(range(len(tree.ids)))
    assert (np.diff(tree.paths, axis=1) >= 0).all()
    for branch in tree.branches:
        assert tree.paths[branch.row, branch.begin : tree.lengths[branch.row]].tolist() == list(
            range(branch.first, branch.last)
        )


def test_what_rows_begin_with_is_there_once():
    shared = list(range(10, 10 + MIN_SHARED))
    tree = tree_of([[*shared, 1], [*shared, 2, 3], [*shared, 1]])
    assert len(tree.ids) == MIN_SHARED + 3


def test_a_short_beginning_is_no_reason_to_share_and_long_rows_come_first():
    tree = tree_of([[1, 2], [1, 2, 3, 4], [1, 2, 3]])
    assert [(branch.row, branch.begin) for branch in tree.branches] == [(1, 0), (2, 0), (0, 0)]


@given(ROWS, st.integers(1, 30))
def test_portions_are_all_branches_in_their_order(rows, size):
    branches = tree_of(rows).branches
    found = list(portions(branches, size))
    assert [branch for some in found for branch in some] == branches
    assert all(some[-1].last - some[0].first <= size or len(some) == 1 for some in found)
    assert list(portions(branches, None)) == [branches]
