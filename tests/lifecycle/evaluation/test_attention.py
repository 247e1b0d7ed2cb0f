"""Attention in a tree is attention of each row alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from lifecycle.evaluation.attention import Span, attend, plan_of, spans_of, visible
from lifecycle.evaluation.prefix_tree import tree_of

LIKE = torch.zeros(1)


def tree():
    shared = list(range(10))
    return tree_of([[*shared, 20], [*shared, *range(30, 50)], [5, 6], [*shared, 20, 21], list(range(60, 80)), [7]])


@pytest.mark.parametrize("heads", [1, 4])
def test_every_token_finds_what_it_finds_in_its_row_alone(heads):
    draw = torch.Generator().manual_seed(0)
    rows = tree()
    nodes = len(rows.ids)
    query = torch.randn(nodes, 4, 8, generator=draw)
    both = torch.randn(nodes, 2, heads, 8, generator=draw)
    found = attend(query, both, plan_of(rows, spans_of(rows.branches), 0, LIKE))
    for path, length in zip(rows.paths, rows.lengths, strict=True):
        own = torch.from_numpy(path[:length])
        q, k, v = (some.transpose(0, 1)[None] for some in (query[own], both[own, 0], both[own, 1]))
        k, v = (some.repeat_interleave(4 // heads, 1) for some in (k, v))
        expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1).flatten(1)
        torch.testing.assert_close(found[own], expected, rtol=1e-5, atol=1e-5)


def test_only_the_tokens_that_ask_are_answered_in_the_order_they_ask():
    draw = torch.Generator().manual_seed(1)
    rows = tree()
    query = torch.randn(len(rows.ids), 2, 8, generator=draw)
    both = torch.randn(len(rows.ids), 2, 2, 8, generator=draw)
    everything = attend(query, both, plan_of(rows, spans_of(rows.branches), 0, LIKE))
    spans = [Span(2, 1, 2, int(rows.paths[2, 1])), Span(1, 12, 15, int(rows.paths[1, 12])), Span(5, 0, 0, 0)]
    asked = torch.tensor([n for span in spans for n in range(span.first, span.first + span.end - span.begin)])
    found = attend(query[asked], both, plan_of(rows, spans, 0, LIKE))
    torch.testing.assert_close(found, everything[asked], rtol=1e-5, atol=1e-5)


def test_a_token_sees_the_columns_up_to_its_position():
    seen = visible(np.array([[0, 2]]), 4, LIKE)
    assert seen.tolist() == [[[[0, -torch.inf, -torch.inf, -torch.inf], [0, 0, 0, -torch.inf]]]]
