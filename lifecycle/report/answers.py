"""What the item records say beyond the scores: calibration, lengths, where answers are lost, examples, gaps."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson

from lifecycle.evaluation.evidence import Share
from lifecycle.evaluation.items import Item

SHOWN_EXAMPLES = 5  # of each kind: enough to see a pattern, few enough to be read
SHOWN_IDS, SHOWN_REASONS = 8, 4
BINS, ITEMS_PER_BIN = 10, 30  # a share of 30 items is known to about 18 points either way: fewer say nothing
LENGTH_BINS = 24

LIKELIHOOD = "likelihood"  # the mode in which a model is asked about a text and says nothing itself

Key = tuple[str, str, str, str, int]
Records = Mapping[Key, Item]
"""The records of one report by `Item.key`."""

# What a stored row holds beside what its answer is graded against.
NOT_WANTED = {"id", "messages", "record", "slice", "cluster"}


@dataclass(frozen=True)
class Bin:
    """Answers of about the same probability: what the model gave them, and how many were right."""

    said: float
    right: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class Calibration:
    """Whether the probability that a model gives its answers can be believed."""

    suite: str
    bins: Sequence[Bin]
    gap: float
    """Mean distance between `said` and `right`, weighted by items; 0 is perfect (Naeini et al. 2015, equation 3)."""


@dataclass(frozen=True)
class Lengths:
    """How long the answers of one suite and mode are, in tokens: shares by bin, and the middle one."""

    suite: str
    mode: str
    edges: Sequence[float]
    shares: Sequence[float]
    live_shares: Sequence[float] | None
    median: float
    live_median: float | None


@dataclass(frozen=True)
class Step:
    """One thing an answer must do: how many did it and all before it, and, where known, why others did not."""

    name: str
    left: int
    lost: Mapping[str, int]


@dataclass(frozen=True)
class Path:
    """From asked to right."""

    suite: str
    mode: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Example:
    """One item as it was asked and answered."""

    id: str
    prompt: str
    wanted: str
    answer: Item
    live: Item | None


@dataclass(frozen=True)
class Examples:
    """Items on which a grade is worse or better than live; with nothing live, those that missed it are the lost."""

    suite: str
    mode: str
    grade: str
    lost: Sequence[Example]
    won: Sequence[Example]
    lost_items: int
    won_items: int


@dataclass(frozen=True)
class Gap:
    """Items that could not be measured, for one reason."""

    suite: str
    mode: str
    reason: str
    items: int
    of: int
    ids: Sequence[str]


def calibrations(records: Records) -> list[Calibration]:
    """For every suite whose greedy answers are right or wrong, with enough of them."""
    answers: dict[str, list[tuple[float, bool]]] = {}
    for item in records.values():
        if item.mode == "greedy" and item.log_probability is not None and item.score in (0, 1):
            answers.setdefault(item.suite, []).append((math.exp(item.log_probability), item.score == 1))
    return [calibration(suite, pairs) for suite, pairs in answers.items() if len(pairs) >= ITEMS_PER_BIN]


def calibration(suite: str, answers: Sequence[tuple[float, bool]]) -> Calibration:
    """Answers by tenths of probability, tenths with too few joined to the next, each with a 95 % interval."""
    bins, some = list[Bin](), list[tuple[float, bool]]()
    tenths = [[pair for pair in answers if min(BINS - 1, int(pair[0] * BINS)) == tenth] for tenth in range(BINS)]
    for number, tenth in enumerate(tenths, 1):
        some += tenth
        left = sum(map(len, tenths[number:]))
        if len(some) >= ITEMS_PER_BIN and (left == 0 or left >= ITEMS_PER_BIN):
            bins.append(_bin(some))
            some = []
    gap = math.fsum(one.items * abs(one.said - one.right) for one in bins) / len(answers)
    return Calibration(suite, bins, gap)


def _bin(some: Sequence[tuple[float, bool]]) -> Bin:
    said = math.fsum(probability for probability, _ in some) / len(some)
    right = sum(correct for _, correct in some) / len(some)
    low, high = Share({str(number): correct for number, (_, correct) in enumerate(some)}).interval(0.025)
    return Bin(said, right, low, high, len(some))


def all_lengths(records: Records, live: Records) -> list[Lengths]:
    """Every suite and mode in which the model says something."""
    theirs = _tokens(live)
    return [_lengths(*key, tokens, theirs.get(key)) for key, tokens in _tokens(records).items()]


def paths(records: Records) -> list[Path]:
    """For suites with several right-or-wrong grades: asked, measured, then each grade among those that had the last."""
    found = []
    for (suite, mode), items in _by_mode(records).items():
        grades = [grade for grade in ("stopped", "correct", "exact") if any(grade in item.grades for item in items)]
        if len(grades) > 1:
            left = [item for item in items if item.unmeasured is None]
            lost = Counter(item.unmeasured for item in items if item.unmeasured is not None)
            reasons = dict(lost.most_common(SHOWN_REASONS))
            if others := sum(lost.values()) - sum(reasons.values()):
                reasons["for other reasons"] = others
            steps = [Step("asked", len(items), {}), Step("measured", len(left), reasons)]
            for grade in grades:
                left = [item for item in left if item.grades.get(grade) == 1]
                steps.append(Step(grade, len(left), {}))
            found.append(Path(suite, mode, steps))
    return found


def gaps(records: Records) -> list[Gap]:
    """What could not be measured, the commonest reason first."""
    asked = Counter((item.suite, str(item.mode)) for item in records.values())
    missing: dict[tuple[str, str, str], list[str]] = {}
    for item in records.values():
        if item.unmeasured is not None:
            missing.setdefault((item.suite, item.mode, item.unmeasured), []).append(_name(item))
    found = [Gap(*key, len(ids), asked[key[0], key[1]], ids[:SHOWN_IDS]) for key, ids in missing.items()]
    return sorted(found, key=lambda gap: -gap.items)


def examples(records: Records, live: Records, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[Examples]:
    """Per suite, mode and grade the answers the model was surest of; items that fared so in another grade once only."""
    found, shown = [], set[Key]()
    for (suite, mode), items in _by_mode(records).items():
        told: list[tuple[list[Key], list[Key]]] = []
        for grade in sorted({grade for item in items for grade in item.grades}, key=_importance):
            lost, won = changed = _changed(items, live, grade)
            if not (lost or won) or changed in told:
                continue
            told.append(changed)
            some = [_surest(keys, records, shown) for keys in changed]
            parts = [[_example(records[key], live.get(key), rows) for key in keys] for keys in some]
            found.append(Examples(suite, mode, grade, parts[0], parts[1], len(lost), len(won)))
    return found


def _changed(items: Sequence[Item], live: Records, grade: str) -> tuple[list[Key], list[Key]]:
    """Items that have lost the grade, and those that have won it; with nothing live, those without it."""
    lost, won = list[Key](), list[Key]()
    for item in items:
        ours, theirs = item.grades.get(grade), 1.0 if not live else None
        if item.key in live:
            theirs = live[item.key].grades.get(grade)
        if ours is not None and theirs is not None and ours != theirs:
            (won if ours > theirs else lost).append(item.key)
    return lost, won


def _surest(keys: Sequence[Key], records: Records, shown: set[Key]) -> list[Key]:
    known = {key: records[key].log_probability for key in keys if key not in shown}
    some = sorted(known, key=lambda key: -math.inf if (p := known[key]) is None else p, reverse=True)[:SHOWN_EXAMPLES]
    shown.update(some)
    return some


def _example(item: Item, live: Item | None, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Example:
    row = rows.get((item.suite, item.id), {})
    turns = row.get("messages", ())
    prompt = "\n\n".join(t["content"] if len(turns) == 1 else f"{t['role']}: {t['content']}" for t in turns)
    wanted = {name: value for name, value in row.items() if name not in NOT_WANTED}
    if wanted.keys() == {"field", "value"}:
        wanted = {wanted["field"]: wanted["value"]}
    return Example(_name(item), prompt, orjson.dumps(wanted).decode() if wanted else "", item, live)


def _importance(grade: str) -> tuple[int, str]:
    """Whether an answer is right comes before how it is worded."""
    return (("correct", "exact").index(grade) if grade in ("correct", "exact") else 2), grade


def _lengths(suite: str, mode: str, tokens: Sequence[int], live: Sequence[int] | None) -> Lengths:
    longest = max([*tokens, *(live or ())])
    step = max(1, math.ceil((longest + 1) / LENGTH_BINS))
    edges = list(range(0, longest + step + 1, step))

    def shares(counted: Sequence[int]) -> list[float]:
        bins = Counter(length // step for length in counted)
        return [bins[number] / len(counted) for number in range(len(edges) - 1)]

    theirs = (None, None) if live is None else (shares(live), median(live))
    return Lengths(suite, mode, edges, shares(tokens), theirs[0], median(tokens), theirs[1])


def _tokens(records: Records) -> dict[tuple[str, str], list[int]]:
    """Tokens of what the model itself said, where it could be measured."""
    said = {key: [i.tokens for i in items if i.unmeasured is None] for key, items in _by_mode(records).items()}
    return {key: tokens for key, tokens in said.items() if tokens and key[1] != LIKELIHOOD}


def _by_mode(records: Records) -> dict[tuple[str, str], list[Item]]:
    """Whatever has grades, by suite and mode."""
    found: dict[tuple[str, str], list[Item]] = {}
    for item in records.values():
        if item.grades:
            found.setdefault((item.suite, item.mode), []).append(item)
    return found


def _name(item: Item) -> str:
    return f"{item.slice}/{item.id}" if item.slice else item.id
