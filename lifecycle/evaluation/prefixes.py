"""Batches of prompts that begin alike: `llama.Llama` reads once what a batch shares, such as few-shot examples."""

from collections.abc import Sequence

Ids = Sequence[int]


def in_batches(prompts: Sequence[Ids], size: int) -> list[list[int]]:
    """Numbers of the prompts in batches of at most `size`, the longest first within each group that begins alike.

    Groups are cut where half a batch of prompts goes on together: smaller ones would cost more in half empty batches
    than the tokens they share save.
    """
    batches = []
    for group in _alike(prompts, least=max(2, size // 2)):
        group.sort(key=lambda number: (-len(prompts[number]), number))
        batches += [group[begin : begin + size] for begin in range(0, len(group), size)]
    return sorted(batches, key=lambda batch: (-len(prompts[batch[0]]), batch[0]))


def _alike(prompts: Sequence[Ids], *, least: int) -> list[list[int]]:
    """Every prompt's number once, in groups: those that share more tokens with `least` others leave the rest."""
    groups: list[list[int]] = []
    open_groups = [sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]))]
    while open_groups:
        members = open_groups.pop()
        if len(members) < 2 * least:
            groups.append(members)
            continue
        shared = _shared(prompts[members[0]], prompts[members[-1]])
        next_token: dict[int | None, list[int]] = {}
        for number in members:
            ids = prompts[number]
            next_token.setdefault(ids[shared] if len(ids) > shared else None, []).append(number)
        large = [part for part in next_token.values() if least <= len(part) < len(members)]
        open_groups += large
        rest = [number for part in next_token.values() if not any(part is one for one in large) for number in part]
        if rest:
            groups.append(rest)
    return [group for group in groups if group]


def _shared(first: Ids, last: Ids) -> int:
    """Tokens that a sorted group's first and last prompt, and so all of it, begin with."""
    pairs = zip(first, last, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(last)))
