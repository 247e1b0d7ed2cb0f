"""Who sees what next: new items in an order of their own, and some of the old ones again with their sides swapped."""

import random
import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain

from lifecycle.desk.items import Item
from lifecycle.desk.votes import Turn

APART = 10
"""Comparisons between an item and its repetition: what was just decided is remembered, not judged again."""
BLOCK = 20
"""Everybody meets the items in blocks of the same order, shuffled inside: two people who stop early still overlap."""


class Turns:
    """The plan of one desk. Chance decides sides; which items come in which order follows from the seed."""

    def __init__(
        self,
        items: Mapping[str, Item],
        *,
        seed: int,
        repeat_share: float,
        votes_per_item: int | None,
        chance: random.Random | None = None,
    ) -> None:
        self.items, self.seed, self.repeat_share, self.votes_per_item = items, seed, repeat_share, votes_per_item
        self.chance = chance or random.SystemRandom()
        common = self._mixed(items, "")
        self._orders: dict[str, list[str]] = {}
        self._blocks = [common[begin : begin + BLOCK] for begin in range(0, len(common), BLOCK)]

    def order(self, annotator: str) -> list[str]:
        """The items as somebody meets them."""
        if annotator not in self._orders:
            mixed = (self._mixed(block, annotator) for block in self._blocks)
            self._orders[annotator] = list(chain.from_iterable(mixed))
        return self._orders[annotator]

    def next(self, annotator: str, database: sqlite3.Connection) -> Turn | None:
        """What somebody without an open comparison sees next."""
        seen = database.execute(
            "SELECT number, item, left, repeats, ROW_NUMBER() OVER (ORDER BY number) FROM shown WHERE annotator = ?",
            (annotator,),
        ).fetchall()
        repeated = {row[3] for row in seen if row[3] is not None}
        met = {row[1] for row in seen}
        if len(repeated) < self._repeats_due(len(met)):
            decided = "SELECT shown FROM counted WHERE annotator = ? AND choice <> 'skip'"
            answered = {row[0] for row in database.execute(decided, (annotator,))}
            old = [
                (number, item, left)
                for number, item, left, repeats, place in seen
                if repeats is None
                and number in answered - repeated
                and len(seen) - place >= APART
                and self.items[item].better is None
            ]
            if old:
                number, item, left = self.chance.choice(old)
                return Turn(item, 1 - left, number)
        full = self._full(database)
        for item in self.order(annotator):
            if item not in met and item not in full:
                return Turn(item, self.chance.randrange(2))
        return None

    def asked(self, annotator: str, database: sqlite3.Connection) -> tuple[int, int]:
        """How many comparisons somebody has decided, and how many there will be if all goes on like this."""
        seen = database.execute("SELECT item FROM shown WHERE annotator = ? AND repeats IS NULL", (annotator,))
        met, full = {row[0] for row in seen}, self._full(database)
        new = len([item for item in self.items if item in met or item not in full])
        decided = database.execute("SELECT COUNT(*) FROM counted WHERE annotator = ?", (annotator,)).fetchone()[0]
        return int(decided), max(int(decided), new + self._repeats_due(new))

    def _repeats_due(self, met: int) -> int:
        return int(self.repeat_share * max(0, met - APART))

    def _full(self, database: sqlite3.Connection) -> set[str]:
        """Items that enough people have, or had, before them; gold is for everybody, and a skip makes room again."""
        if self.votes_per_item is None:
            return set()
        people = database.execute(
            "SELECT item, COUNT(*) FROM shown WHERE repeats IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM counted WHERE counted.shown = shown.number AND choice = 'skip') GROUP BY item"
        )
        return {item for item, count in people if count >= self.votes_per_item and self.items[item].better is None}

    def _mixed(self, names: Mapping[str, Item] | Sequence[str], who: str) -> list[str]:
        return sorted(names, key=lambda name: sha256(f"{self.seed} {who} {name}".encode()).digest())
