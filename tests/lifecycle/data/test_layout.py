"""Best fit by hand and against its definition; what is cut, counted against the pieces."""

import numpy as np
import pytest

from lifecycle.data.layout import best_fit, cuts_by_best_fit, cuts_by_concatenation


def test_each_piece_goes_where_it_leaves_the_least_room():
    #            order of placing: 7 -> row 0 (3 left), 6 -> row 1 (4 left), 4 -> row 1, 3 -> row 0, 2 -> a new row
    rows, starts = best_fit(np.array([3, 7, 2, 6, 4]), 10)
    assert rows.tolist() == [0, 0, 2, 1, 1]
    assert starts.tolist() == [7, 0, 0, 0, 6]


def slow_best_fit(tokens: list[int], width: int) -> list[int]:
    """The same rule by looking at every row; of rows with equal room, the one that got it last."""
    rooms: list[tuple[int, int]] = []  # room, when it got it
    rows = [0] * len(tokens)
    for turn, piece in enumerate(sorted(range(len(tokens)), key=lambda i: (-tokens[i], i))):
        fitting = [(room, -when, row) for row, (room, when) in enumerate(rooms) if room >= tokens[piece]]
        if not fitting:
            rooms.append((width, turn))
            fitting = [(width, -turn, len(rooms) - 1)]
        rows[piece] = min(fitting)[2]
        rooms[rows[piece]] = (rooms[rows[piece]][0] - tokens[piece], turn)
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_the_fast_search_is_the_rule(seed):
    draw = np.random.default_rng(seed)
    width = int(draw.integers(2, 80))
    tokens = draw.integers(1, width + 1, 400)
    rows, starts = best_fit(tokens, width)
    assert rows.tolist() == slow_best_fit(tokens.tolist(), width)
    taken = np.zeros((rows.max() + 1, width), np.int64)
    for row, start, length in zip(rows, starts, tokens, strict=True):
        taken[row, start : start + length] += 1
    assert taken.max() == 1
    assert taken.sum() == tokens.sum()


def test_cuts_are_counted_as_they_fall():
    lengths = np.array([3, 2, 10, 1])  # end to end in rows of 4: 3 | 2 is cut once, 10 twice, 1 not
    assert cuts_by_concatenation(lengths, 4).tolist() == [0, 1, 2, 0]
    assert cuts_by_best_fit(lengths, 4).tolist() == [0, 0, 2, 0]
    assert (
        cuts_by_concatenation(np.array([4, 4]), 4).tolist() == cuts_by_best_fit(np.array([4, 4]), 4).tolist() == [0, 0]
    )
