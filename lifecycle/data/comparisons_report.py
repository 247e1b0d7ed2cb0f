"""What the report of comparisons says: where pairs come from, and whether something shallow decides them.

It lies in the artifact's `log/`: what was counted is verified, but is no part of what the pairs are.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from pydantic import Field

from lifecycle.data.conversations import answer_key, prompt_key
from lifecycle.data.corpus_report import Facts
from lifecycle.data.jsonl import Row
from lifecycle.errors import InputError
from lifecycle.sealing import LOG_FOLDER

REPORT = f"{LOG_FOLDER}/report.json"
PHRASE_WORDS = (2, 3)  # one word alone may be "the", which longer answers hold more often
MIN_PAIRS = 20
"""Below, every share is chance."""
SWAPPED = 0.75  # of the labels: more than coins would give


class Lengths(Facts):
    """Characters of answers."""

    chosen_mean: float
    rejected_mean: float
    shorter_is_chosen: float = Field(description="Share of pairs; a pair of equal lengths counts half.")


class Phrase(Facts):
    """Words that stand in one answer of many pairs, and not in the other."""

    text: str
    only_in_chosen: float = Field(description="Share of pairs.")
    only_in_rejected: float


class Positions(Facts):
    """Pairs whose answers were shown in an order, and in how many the first one won."""

    shown: int
    first_won: int


class Verified(Facts):
    """Pairs that a verifier can decide, and in how many it prefers the other answer."""

    decided: int
    contradicted: int
    examples: list[str] = Field(default_factory=list, description="Ids, a sample.")


class SourceOfPairs(Facts):
    """One source's part, after everything was dropped."""

    licence: str
    kinds: dict[str, int] = Field(description="Pairs by what they were made from: pair, ranking, rating, sampled.")
    train: int
    heldout: int
    lengths: Lengths | None = Field(description="Of its pairs to train on.")


class ComparisonsReport(Facts):
    """The whole of it. Shares are of the pairs to train on."""

    sources: dict[str, SourceOfPairs]
    prompts: int
    dropped: dict[str, int]
    lengths: Lengths
    length_level: float = Field(description="Share of pairs that length alone may predict without a warning.")
    phrase: Phrase | None = None
    phrase_level: float
    positions: Positions
    verified: Verified
    warnings: list[str] = Field(description="What something shallow could win by, and what was held out.")


def lengths_of(rows: Sequence[Row]) -> Lengths:
    """Of these pairs."""
    sizes = [(len(answer_key(row["chosen"])), len(answer_key(row["rejected"]))) for row in rows]
    return Lengths(
        chosen_mean=round(fmean(chosen for chosen, _ in sizes), 2),
        rejected_mean=round(fmean(rejected for _, rejected in sizes), 2),
        shorter_is_chosen=round(
            sum((chosen < rejected) + (chosen == rejected) / 2 for chosen, rejected in sizes) / len(sizes), 6
        ),
    )


def positions_of(rows: Sequence[Row]) -> Positions:
    """Of these pairs."""
    shown = [row["place"] for row in rows if "place" in row]
    return Positions(shown=len(shown), first_won=sum(place == 0 for place in shown))


def decisive_phrase(rows: Sequence[Row]) -> Phrase | None:
    """The phrase of two or three words that decides most pairs by being there, or by not being there."""
    chosen, rejected = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for row in rows:
        winner, loser = (_phrases(answer_key(row[side])) for side in ("chosen", "rejected"))
        chosen.update(winner - loser)
        rejected.update(loser - winner)
    if len(rows) < MIN_PAIRS or not (chosen or rejected):
        return None
    said = max({*chosen, *rejected}, key=lambda words: (abs(chosen[words] - rejected[words]), len(words), words))
    return Phrase(
        text=" ".join(said),
        only_in_chosen=round(chosen[said] / len(rows), 6),
        only_in_rejected=round(rejected[said] / len(rows), 6),
    )


def _phrases(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {tuple(words[at : at + size]) for size in PHRASE_WORDS for at in range(len(words) - size + 1)}


def report_of(
    train: Sequence[Row],
    heldout: Sequence[Row],
    *,
    licences: Mapping[str, str],
    dropped: Mapping[str, int],
    verified: Verified,
    length_level: float,
    phrase_level: float,
) -> ComparisonsReport:
    """All that can be said of these pairs."""
    lengths, phrase, positions = lengths_of(train), decisive_phrase(train), positions_of([*train, *heldout])
    return ComparisonsReport(
        sources={name: _source(name, licence, train, heldout) for name, licence in licences.items()},
        prompts=len({prompt_key(row["prompt"]) for row in train}),
        dropped=dict(dropped),
        lengths=lengths,
        length_level=length_level,
        phrase=phrase,
        phrase_level=phrase_level,
        positions=positions,
        verified=verified,
        warnings=[
            *_of_length(lengths, length_level, len(train)),
            *_of_phrase(phrase, phrase_level),
            *_of_positions(positions),
            *_of_held_out(dropped),
        ],
    )


def _source(name: str, licence: str, train: Sequence[Row], heldout: Sequence[Row]) -> SourceOfPairs:
    own, held = ([row for row in rows if row.get("source", "") == name] for rows in (train, heldout))
    return SourceOfPairs(
        licence=licence,
        kinds=dict(Counter(row["kind"] for row in [*own, *held])),
        train=len(own),
        heldout=len(held),
        lengths=lengths_of(own) if own else None,
    )


def _of_length(lengths: Lengths, level: float, pairs: int) -> Iterator[str]:
    predicted = max(lengths.shorter_is_chosen, 1 - lengths.shorter_is_chosen)
    if predicted > level and pairs >= MIN_PAIRS:
        wins = "shorter" if lengths.shorter_is_chosen > 0.5 else "longer"
        yield (
            f"length_is_the_signal: the {wins} answer is chosen in {predicted:.0%} of the pairs; a model can win them "
            "by length alone."
        )


def _of_phrase(phrase: Phrase | None, level: float) -> Iterator[str]:
    if phrase is not None and max(phrase.only_in_chosen, phrase.only_in_rejected) > level:
        side = "chosen" if phrase.only_in_chosen > phrase.only_in_rejected else "rejected"
        share = max(phrase.only_in_chosen, phrase.only_in_rejected)
        yield (
            f"phrase_is_the_signal: {phrase.text!r} stands in the {side} answer alone in {share:.0%} of the pairs; a "
            "model can win them by that phrase alone."
        )


def _of_positions(positions: Positions) -> Iterator[str]:
    if positions.shown < MIN_PAIRS:
        return
    share = positions.first_won / positions.shown
    if abs(share - 0.5) > 3 * 0.5 / math.sqrt(positions.shown):
        yield (
            f"position_is_a_signal: the answer shown first won {share:.0%} of {positions.shown:,} pairs; ask in both "
            "orders."
        )


def about_held_out(dropped: Mapping[str, int]) -> int:
    """Pairs that were dropped because they are about items of the evaluation."""
    return sum(count for reason, count in dropped.items() if "contaminated" in reason)


def not_made_from_the_evaluation(
    kept: Mapping[str, Sequence[Row]], dropped: Mapping[str, int], *, at_most: float
) -> None:
    """Raise where too many pairs were about held-out items: what is left is likely about them in other words."""
    found = about_held_out(dropped)
    pairs = found + sum(map(len, kept.values()))
    if pairs >= MIN_PAIRS and found > at_most * pairs:
        raise InputError(
            f"asks_evaluation_items: expected at most {at_most:.0%} of the pairs to be about held-out items, found "
            f"{found:,} of {pairs:,} ({found / pairs:.0%}). Take prompts from elsewhere, or raise "
            "comparisons.max_contaminated_share: they are dropped in any case."
        )


def labels_hold(verified: Verified, *, at_most: float) -> None:
    """Raise where a program that can tell says that too many of the other answers are better."""
    if verified.contradicted > at_most * verified.decided:
        share = verified.contradicted / verified.decided
        swapped = "chosen and rejected look swapped" if share > SWAPPED else "labels look wrong"
        raise InputError(
            f"labels_contradict_verifier: expected at most {at_most:.0%} of the pairs that a verifier can decide to "
            f"be labelled against it, found {verified.contradicted:,} of {verified.decided:,} ({share:.0%}), like "
            f"{', '.join(verified.examples)}: {swapped}. Look at them, or raise comparisons.max_contradicted_share."
        )


def _of_held_out(dropped: Mapping[str, int]) -> Iterator[str]:
    if found := about_held_out(dropped):
        yield f"asks_evaluation_items: {found:,} pairs were about items of the evaluation; they were dropped."
