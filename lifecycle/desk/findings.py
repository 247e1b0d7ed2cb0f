"""What the votes of a desk add up to. First looks count; repetitions and gold items say how far they can be trusted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lifecycle.desk.folder import Desk
from lifecycle.desk.items import Item
from lifecycle.desk.votes import CHOICES, Vote
from lifecycle.evaluation.agreement import Estimate, krippendorff_alpha, share, share_of_clusters, win_rates

NEITHER = 2
"""The category of ties and of pairs in which both are bad, beside 0 and 1 for the answers of an item."""


class Spread(NamedTuple):
    """Seconds of the middle half of somebody's decisions."""

    quarter: float
    median: float
    three_quarters: float


@dataclass(frozen=True)
class Voter:
    """One person's votes, or everybody's."""

    name: str
    votes: int
    seconds: Spread | None
    left: Estimate
    """How often the answer at the left was preferred, of decisions for one of them."""
    longer: Estimate
    """How often the longer answer was preferred, by item."""
    again: Estimate
    """How often a repeated comparison was decided as before."""
    gold: Estimate
    """How often the answer known to be better was preferred."""


@dataclass(frozen=True)
class Findings:
    """All that the summary shows."""

    digest: str
    everybody: Voter
    voters: list[Voter]
    agreement: Estimate
    wins: dict[str, Estimate]
    choices: dict[str, int]
    tags: dict[str, int]
    seconds: list[float]
    judged: int
    items: int
    undone: int
    same_side: int
    """Repeated comparisons in which the side was kept and the answer was not."""


def of(desk: Desk) -> Findings:
    """The findings on a desk as it is now."""
    votes = desk.votes.counted()
    names = [person.name for person in desk.people.all()]
    voters = sorted({vote.annotator for vote in votes}, key=lambda name: names.index(name) if name in names else 99)
    judged = first_looks(desk.items, votes)
    return Findings(
        digest=desk.digest(votes),
        everybody=_voter("everybody", desk.items, votes),
        voters=[_voter(name, desk.items, [vote for vote in votes if vote.annotator == name]) for name in voters],
        agreement=agreement(judged),
        wins=_wins(desk, judged),
        choices={choice: sum(vote.choice == choice for vote in votes) for choice in CHOICES},
        tags=dict(Counter(tag for vote in votes for tag in vote.tags).most_common()),
        seconds=[vote.seconds for vote in votes if vote.seconds is not None and vote.choice != "skip"],
        judged=len({vote.item for vote in judged}),
        items=desk.record.items,
        undone=desk.votes.undone(),
        same_side=sum(_kept_the_side(before, after) for before, after in _twice(votes)),
    )


def first_looks(items: dict[str, Item], votes: Sequence[Vote]) -> list[Vote]:
    """The votes that answer the desk's question: no repetition, no gold item, no skip."""
    return [
        vote for vote in votes if vote.repeats is None and items[vote.item].better is None and vote.choice != "skip"
    ]


def agreement(votes: Sequence[Vote]) -> Estimate:
    """Krippendorff's alpha on which answer of an item was preferred, or neither.

    Which answer is 0 and which 1 follows from a digest, so a system that wins often does not make agreement look like
    chance.
    """
    rows = {item: number for number, item in enumerate(sorted({vote.item for vote in votes}))}
    counts_UC = np.zeros((len(rows), 3))
    for vote in votes:
        counts_UC[rows[vote.item], NEITHER if vote.preferred is None else vote.preferred] += 1
    return krippendorff_alpha(counts_UC)


def _wins(desk: Desk, votes: Sequence[Vote]) -> dict[str, Estimate]:
    """By system, where votes are about several."""
    systems = sorted({answer.system for vote in votes for answer in desk.items[vote.item].answers})
    if len(systems) < 2:
        return {}
    pairs = []
    for vote in votes:
        one, other = (systems.index(answer.system) for answer in desk.items[vote.item].answers)
        pairs.append((one, other, 0.5 if vote.preferred is None else float(vote.preferred == 0)))
    rates = win_rates(pairs, [desk.items[vote.item].prompt_name for vote in votes], systems=len(systems))
    return {desk.system(system): rate for system, rate in zip(systems, rates, strict=True)}


def _voter(name: str, items: dict[str, Item], votes: Sequence[Vote]) -> Voter:
    looked = first_looks(items, votes)
    decided = [vote for vote in looked if vote.preferred is not None]
    unequal = [vote for vote in decided if len(set(items[vote.item].lengths)) == 2]
    longer = [float(np.argmax(items[vote.item].lengths) == vote.preferred) for vote in unequal]
    twice = _twice(votes)
    gold = [vote for vote in votes if items[vote.item].better is not None and vote.choice != "skip"]
    seconds = [vote.seconds for vote in votes if vote.seconds is not None and vote.choice != "skip"]
    return Voter(
        name=name,
        votes=len(votes),
        seconds=Spread(*map(float, np.quantile(seconds, [0.25, 0.5, 0.75]))) if seconds else None,
        left=share(sum(vote.choice == "left" for vote in decided), len(decided)),
        longer=share_of_clusters(longer, [vote.item for vote in unequal]),
        again=share(sum(before.preferred == after.preferred for before, after in twice), len(twice)),
        gold=share(sum(vote.preferred == items[vote.item].better for vote in gold), len(gold)),
    )


def _twice(votes: Sequence[Vote]) -> list[tuple[Vote, Vote]]:
    """Both decisions on what was shown twice."""
    first = {vote.shown: vote for vote in votes if vote.choice != "skip"}
    return [(first[vote.repeats], vote) for vote in first.values() if vote.repeats in first]


def _kept_the_side(before: Vote, after: Vote) -> bool:
    """Whether the same side was taken although the answers had changed places."""
    return before.preferred is not None and before.choice == after.choice
