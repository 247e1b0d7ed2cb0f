"""Batches of prompts that begin alike: `llama.Llama` reads once what a batch shares, such as few-shot examples."""

from collections.abc import Sequence
from itertools import pairwise

from lifecycle.evaluation.prefix_tree import Ids, shared


def in_batches(prompts: Sequence[Ids], size: int) -> list[list[int]]:
    """Numbers of the prompts in batches of at most `size`, the longest first within each.

    Those that begin alike are side by side, and the batches are as large as each other: two threads end together.
    """
    groups = _alike(prompts, least=max(2, size // 2))
    for group in groups:
        group.sort(key=lambda number: (-len(prompts[number]), number))
    groups.sort(key=lambda group: (-len(prompts[group[0]]), group[0]))
    order = [number for group in groups for number in group]
    count = -(-len(order) // size)
    cuts = [part * len(order) // count for part in range(count + 1)] if count else []
    batches = [order[begin:end] for begin, end in pairwise(cuts)]
    for batch in batches:
        batch.sort(key=lambda number: (-len(prompts[number]), number))
    return batches


def _alike(prompts: Sequence[Ids], *, least: int) -> list[list[int]]:
    """Every prompt's number once, in groups: those that share more tokens with `least` others leave the rest."""
    groups: list[list[int]] = []
    open_groups = [sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]))]
    while open_groups:
        members = open_groups.pop()
        if len(members) < 2 * least:
            groups.append(members)
            continue
        common = shared(prompts[members[0]], prompts[members[-1]])
        next_token: dict[int | None, list[int]] = {}
        for number in members:
            ids = prompts[number]
            next_token.setdefault(ids[common] if len(ids) > common else None, []).append(number)
        large = [part for part in next_token.values() if least <= len(part) < len(members)]
        open_groups += large
        rest = [number for part in next_token.values() if not any(part is one for one in large) for number in part]
        if rest:
            groups.append(rest)
    return [group for group in groups if group]
