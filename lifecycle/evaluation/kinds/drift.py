"""How far a preference checkpoint moved from its reference: records sealed with it, evidence for the gate.

Training measured them on held-out prompts and pairs, on the weights that it kept; no suite asks again, for the
evaluation has no reference.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lifecycle.data.jsonl import Row, load_rows
from lifecycle.evaluation.items import Item, Mode
from lifecycle.evaluation.kinds.suite import Measure, add

KIND = SUITE = "drift"
RECORDS = "drift.jsonl"
ANSWER, PAIR = ("kl", "kl_token"), ("preferred", "chosen_fall")


def answer_record(name: str, *, kl: float, tokens: int) -> Row:
    """A sampled answer: the KL to the reference over it, in nats."""
    return {"id": name, "kl": round(kl, 6), "kl_token": round(kl / tokens, 6), "tokens": tokens}


def pair_record(name: str, *, margin: float, change: float) -> Row:
    """A held-out pair: its reward margin, and by how much its chosen answer's log p a token changed."""
    return {"id": name, "preferred": float(margin > 0), "chosen_fall": round(-change, 6)}


def items(checkpoint: Path) -> Iterator[Item]:
    """The records of a checkpoint whose drift was watched; none of any other."""
    file = checkpoint / RECORDS
    for row in load_rows(file) if file.exists() else ():
        yield _item(row, "sampled", ANSWER) if "kl" in row else _item(row, "likelihood", PAIR)


def measures(items: Sequence[Item]) -> dict[str, Measure]:
    """Means over answers and over pairs: kl, kl_token and chosen_fall are better when lower."""
    found: dict[str, Measure] = {}
    for name in (*ANSWER, *PAIR):
        of = [item for item in items if name in item.grades]
        if of:
            is_share = name == "preferred"
            measure = Measure("share" if is_share else "mean", higher_is_better=is_share)
            measure.bounds = (0.0, 1.0) if is_share else None
            for item in of:
                add(measure, item, item.grades[name])
            found[name] = measure
    return found


def _item(row: Row, mode: Mode, names: Sequence[str]) -> Item:
    grades: dict[str, Any] = {name: row[name] if math.isfinite(row[name]) else None for name in names}
    score = grades[names[0]]
    return Item(
        kind=KIND,
        suite=SUITE,
        id=row["id"],
        mode=mode,
        prompt_digest=row["id"],
        score=score,
        grades=grades,
        tokens=row.get("tokens", 0),
        unmeasured=None if score is not None else "not_finite",
    )
