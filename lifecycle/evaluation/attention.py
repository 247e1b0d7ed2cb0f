"""Attention for a tree of rows: branches of like length side by side, each looking back along its own path.

# N nodes, B branches of a bucket, T tokens they ask about, S tokens of their paths
# H query heads, G key heads, E head size
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lifecycle.evaluation.prefix_tree import Branch, Numbers, Tree

# A bucket's branches have at least this share of its longest one's tokens: padding costs attention, a bucket of its own
# costs ten calls a layer.
LIKE_LENGTH, FEWEST = 0.75, 4


class Span(NamedTuple):
    """Tokens of a row that ask, from position `begin` to before `end`; `first` is the node of the first."""

    row: int
    begin: int
    end: int
    first: int


class Bucket(NamedTuple):
    """Where the queries of some spans are, where their keys, and what each may see: None is the causal mask."""

    queries: Tensor
    """(B, T)"""
    keys: Tensor
    """(B, S)"""
    mask: Tensor | None
    """(B, 1, T, S)"""


class Plan(NamedTuple):
    """Buckets, and for every query its place in what they find, one after the other; None: they are in that order."""

    buckets: list[Bucket]
    places: Tensor | None
    """(N,)"""


def spans_of(branches: Sequence[Branch]) -> list[Span]:
    """Everything that branches bring."""
    return [Span(one.row, one.begin, one.begin + one.last - one.first, one.first) for one in branches]


def plan_of(tree: Tree, spans: Sequence[Span], base: int, like: Tensor) -> Plan:
    """How queries of these spans, one after the other, look at the keys of the nodes from `base` on.

    `like` has their type and device.
    """
    device = like.device
    spans = [span for span in spans if span.end > span.begin]
    sizes = np.array([span.end - span.begin for span in spans])
    starts = np.cumsum(sizes) - sizes
    place_N = np.empty(int(sizes.sum()), np.int64)
    buckets, filled = [], 0
    for some in _alike(sizes, [span.begin == 0 for span in spans]):
        begin_B = np.array([spans[n].begin for n in some])
        own_T = np.arange(int(sizes[some].max()))
        inside_BT = own_T < sizes[some][:, None]
        query_BT = np.minimum(starts[some][:, None] + own_T, (starts + sizes - 1)[some][:, None])
        rows, columns = [spans[n].row for n in some], int((begin_B + sizes[some]).max())
        mask_B1TS = None
        if begin_B.any():
            mask_B1TS = visible(begin_B[:, None] + own_T, columns, like)
        place_N[query_BT[inside_BT]] = (filled + np.arange(query_BT.size).reshape(query_BT.shape))[inside_BT]
        key_BS = tree.paths[rows, :columns] - base
        buckets.append(Bucket(_on(query_BT, device), _on(key_BS, device), mask_B1TS))
        filled += query_BT.size
    in_order = filled == len(place_N) and bool((place_N == np.arange(filled)).all())
    return Plan(buckets, None if in_order else _on(place_N, device))


def attend(query_NHE: Tensor, keys_values: Tensor, plan: Plan) -> Tensor:
    """What each query finds, (N, H * E); `keys_values` are (nodes, 2, G, E)."""
    found = []
    for query_BT, key_BS, mask in plan.buckets:
        query = query_NHE.index_select(0, query_BT.flatten()).view(*query_BT.shape, *query_NHE.shape[1:])
        both = keys_values.index_select(0, key_BS.flatten()).view(*key_BS.shape, *keys_values.shape[1:])
        found.append(looked_up(query, both, mask).flatten(0, 1))
    everything = torch.cat(found) if len(found) > 1 else found[0]
    return everything if plan.places is None else everything.index_select(0, plan.places)


def looked_up(query_BTHE: Tensor, both_BS2GE: Tensor, mask_B1TS: Tensor | None) -> Tensor:
    """Attention of T queries over S keys and values, (B, T, H * E); without a mask the causal one."""
    keys, values = both_BS2GE.unbind(2)
    mixed = functional.scaled_dot_product_attention(
        query_BTHE.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask_B1TS,
        is_causal=mask_B1TS is None and query_BTHE.shape[1] > 1,
        enable_gqa=query_BTHE.shape[2] != keys.shape[2],
    )
    return mixed.transpose(1, 2).flatten(2)


def visible(at_BT: Numbers, columns: int, like: Tensor) -> Tensor:
    """(B, 1, T, S): what is added to scores so that a token at a position sees the columns up to it."""
    hidden_BTS = torch.from_numpy(np.arange(columns) > at_BT[..., None]).to(like.device)
    # Not a mask of truth values: attention would make this of one, in every layer again.
    return like.new_zeros(hidden_BTS.shape).masked_fill_(hidden_BTS, -torch.inf)[:, None]


def _alike(sizes: Numbers, whole: Sequence[bool]) -> Iterator[list[int]]:
    """Spans of like length together, those that need no mask apart from the others."""
    some: list[int] = []
    for n in sorted(range(len(sizes)), key=lambda n: (not whole[n], -sizes[n], n)):
        shorter = some and sizes[n] < LIKE_LENGTH * sizes[some[0]] and len(some) >= FEWEST
        if some and (shorter or whole[n] != whole[some[0]]):
            yield some
            some = []
        some.append(n)
    if some:
        yield some


def _on(numbers: Numbers, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(device)
