"""Which rows of a checked file of conversations or pairs may be trained on, and why the others may not."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from lifecycle.data.conversations import Message, prompt_key
from lifecycle.data.decontaminate import HeldOut, item_text
from lifecycle.data.jsonl import Row
from lifecycle.errors import InputError


class Curator:
    """Drops copies and what is held out; every drop has one reason, and the reasons are counted."""

    def __init__(self, held_out: HeldOut) -> None:
        self.held_out = held_out

    def curate(
        self,
        rows: Sequence[Row],
        *,
        prompt: Callable[[Row], Sequence[Message]],
        same: Callable[[Row], Hashable],
        elsewhere: AbstractSet[str],
        path: Path,
    ) -> tuple[list[Row], Counter[str]]:
        """The rows that may be used: the first of those with equal `same`, no prompt of an item or in `elsewhere`."""
        kept: list[Row] = []
        reasons: Counter[str] = Counter()
        seen: set[Hashable] = set()
        contaminated = self.held_out.found_in([item_text(row) for row in rows])
        for index, row in enumerate(rows):
            if same(row) in seen:
                reasons["duplicate"] += 1
            elif self.held_out.asked_in(prompt(row)) is not None:
                reasons["contaminated_prompt"] += 1
            elif index in contaminated:
                reasons["contaminated_ngram"] += 1
            elif prompt_key(prompt(row)) in elsewhere:
                reasons["prompt_is_held_out_from_training"] += 1
            else:
                kept.append(row)
            seen.add(same(row))
        if not kept:
            raise InputError(
                f"{path}:1: expected rows to keep, found {len(rows)} and dropped all: {dict(reasons)}. "
                "It may be the held-out file itself; check the paths in the recipe."
            )
        return kept, reasons
