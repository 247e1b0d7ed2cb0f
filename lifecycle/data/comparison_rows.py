"""What people and programs say about answers, as pairs in which one should win: pairs, rankings and ratings.

| row | fields beside id and prompt |
|---|---|
| pair | chosen and rejected, one assistant turn each |
| ranking | answers (texts, or objects with `content`), and ranks: 1 is best, equal ranks are ties |
| rating | answer, a text; rating, a number, higher is better. Ratings of a prompt are compared with each other |

A row may hold what a verifier grades by (field and value, or checks), and a record, whose words count in the search for
held-out items.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lifecycle.data.conversations import answer_key, fault_of_comparison, fault_of_messages, prompt_key
from lifecycle.data.jsonl import Row, fault_of_text
from lifecycle.data.order import hash64

KEPT = ("record", "field", "value", "checks")
"""Fields of a row that its pairs inherit."""
NO_PLACE = -1  # of answers that were not shown in an order


class Judged(NamedTuple):
    """An answer, how good it is said to be (higher is better), and its place in the list it was shown in."""

    text: str
    worth: float
    place: int


def fault_of_row(row: Row) -> str | None:
    """Why a row is none of the three, or None."""
    if "answers" in row:
        return fault_of_prompt(row) or _fault_of_ranking(row)
    if "rating" in row or "answer" in row:
        return fault_of_prompt(row) or fault_of_text(row.get("answer")) or _fault_of_number(row.get("rating"))
    return fault_of_comparison(row)


def pairs_of(rows: Iterable[Row], *, per_prompt: int, min_gap: float) -> Iterator[Row]:
    """Every pair as it is; of a ranking or the ratings of a prompt, the widest gaps first, at most `per_prompt`.

    `min_gap` is the least difference of two ratings that says anything. A pair has `place`, that of its chosen answer
    (0: it stood first), where two were shown in an order.
    """
    rated: dict[str, list[Row]] = {}
    for row in rows:
        if "answers" in row:
            judged = [
                Judged(text_of(a), -r, n) for n, (a, r) in enumerate(zip(row["answers"], row["ranks"], strict=True))
            ]
            yield from _widest(row, judged, per_prompt, 0.0, kind="ranking")
        elif "rating" in row:
            rated.setdefault(prompt_key(row["prompt"]), []).append(row)
        else:
            yield {**row, "kind": "pair"}
    for same in rated.values():
        judged = [Judged(row["answer"], row["rating"], NO_PLACE) for row in same]
        yield from _widest(same[0], judged, per_prompt, min_gap, kind="rating")


def by_worth(row: Row, judged: Sequence[Judged], *, per_prompt: int, min_gap: float) -> Iterator[Row]:
    """Pairs of answers that were drawn and judged."""
    yield from _widest(row, judged, per_prompt, min_gap, kind="sampled")


def is_held_out(row: Row, share: float) -> bool:
    """By the hash of the prompt: all pairs of a prompt lie on one side, whatever else is in the file."""
    return hash64("comparisons", prompt_key(row["prompt"])) < share * 2**64


def text_of(answer: str | Mapping[str, Any]) -> str:
    return answer if isinstance(answer, str) else str(answer["content"])


def pair_key(row: Row) -> tuple[str, str, str]:
    """What no two pairs share."""
    return prompt_key(row["prompt"]), answer_key(row["chosen"]), answer_key(row["rejected"])


def without_contradictions(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows whose opposite is not there as well, and how many were dropped. Neither side of a conflict is kept."""
    pairs = {pair_key(row) for row in rows}
    kept = [row for row in rows if (pair_key(row)[0], pair_key(row)[2], pair_key(row)[1]) not in pairs]
    return kept, len(rows) - len(kept)


def _widest(row: Row, judged: Sequence[Judged], per_prompt: int, min_gap: float, *, kind: str) -> Iterator[Row]:
    """The pairs with the widest gap of worth, and of equal gaps the first ones; ties and equal texts are none."""
    pairs = [
        (one, other) if one.worth > other.worth else (other, one)
        for one, other in itertools.combinations(judged, 2)
        if abs(one.worth - other.worth) > min_gap and one.text.strip() != other.text.strip()
    ]
    pairs.sort(key=lambda pair: pair[1].worth - pair[0].worth)
    kept = {name: row[name] for name in KEPT if name in row}
    for number, (better, worse) in enumerate(pairs[:per_prompt]):
        places = {"place": int(better.place > worse.place)} if better.place != NO_PLACE else {}
        yield {
            "id": f"{row['id']}-{number}",
            "prompt": row["prompt"],
            "chosen": [{"role": "assistant", "content": better.text}],
            "rejected": [{"role": "assistant", "content": worse.text}],
            "kind": kind,
            **places,
            **kept,
        }


def fault_of_prompt(row: Row) -> str | None:
    """Why a row holds no question, or None."""
    return fault_of_messages(row.get("prompt"), last_role="user", tools=True)


def _fault_of_ranking(row: Row) -> str | None:
    answers, ranks = row.get("answers"), row.get("ranks")
    if not isinstance(answers, list) or not isinstance(ranks, list) or len(answers) != len(ranks):
        return "row_answers_without_ranks"
    if len(answers) < 2:
        return "row_one_answer"
    for answer in answers:
        if fault := fault_of_text(answer.get("content") if isinstance(answer, dict) else answer):
            return fault
    return next(filter(None, map(_fault_of_number, ranks)), None)


def _fault_of_number(value: object) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and math.isfinite(float(value)) else "row_no_number"  # type: ignore[arg-type]
