"""From votes to pairs to train on: what a majority preferred, with who said so. Ties are kept apart."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from lifecycle.desk.findings import agreement, first_looks
from lifecycle.desk.folder import Desk
from lifecycle.desk.items import CHOSEN, REJECTED, Item
from lifecycle.desk.votes import Vote
from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import write_atomically


class Exported(NamedTuple):
    """What was written: pairs and ties, with the agreement they stand on."""

    pairs: int
    ties: int
    alpha: float | None
    ties_file: Path
    provenance_file: Path


def export(desk: Desk, out: Path, *, minimum_agreement: float | None, minimum_votes: int = 1) -> Exported:
    """Write the pairs that more than half of their voters decided the same way, as rows of the comparisons stage.

    Beside them lie `<out>.ties.jsonl`, with the pairs that no majority decided, and `<out>.provenance.json`. Raises
    ContractError when people agree less than asked, or when their agreement could not be measured: nothing is written
    then. `minimum_agreement=None` asks nothing, and is recorded.
    """
    votes = first_looks(desk.items, desk.votes.counted())
    found = agreement(votes)
    if minimum_agreement is not None and (found.value is None or found.value < minimum_agreement):
        was = "none that could be measured" if found.value is None else f"{found.value:.2f}"
        raise ContractError(
            f"expected an agreement (Krippendorff's alpha) of at least {minimum_agreement:.2f}, found {was} on "
            f"{found.of:,} pairs judged by several people. Look at the summary: clearer instructions, more people on "
            "the same pairs, or fewer pairs that are alike."
        )
    digest = desk.digest(votes)
    stands_on = {"desk": digest, "agreement": found.value, "minimum_agreement": minimum_agreement}
    by_item: dict[str, list[Vote]] = {}
    for vote in votes:
        by_item.setdefault(vote.item, []).append(vote)
    pairs, ties = [], []
    for name, cast in sorted(by_item.items()):
        if len(cast) < minimum_votes:
            continue
        winner = majority(cast)
        if winner is None:
            ties.append(_tie(desk.items[name], cast, stands_on))
        else:
            pairs.append(_pair(desk.items[name], cast, winner, stands_on))
    if not pairs:
        raise InputError(f"expected pairs that a majority decided, found none among {len(by_item)}. Ask more people.")
    provenance = {
        "desk": digest,
        "items_sha256": desk.record.items_sha256,
        "made_of": desk.record.made_of,
        "config": desk.record.config.model_dump(mode="json"),
        "agreement": found._asdict(),
        "minimum_agreement": minimum_agreement,
        "minimum_votes": minimum_votes,
        "pairs": len(pairs),
        "ties": len(ties),
        "votes_by_annotator": dict(sorted(Counter(vote.annotator for vote in votes).items())),
    }
    beside = Exported(
        len(pairs), len(ties), found.value, out.with_suffix(".ties.jsonl"), out.with_suffix(".provenance.json")
    )
    write_atomically(beside.ties_file, _lines(ties))
    write_atomically(beside.provenance_file, json.dumps(provenance, indent=1).encode())
    write_atomically(out, _lines(pairs))
    return beside


def majority(votes: Sequence[Vote]) -> int | None:
    """The answer that more than half of these people preferred; None where half or more did not."""
    counts = Counter(vote.preferred for vote in votes)
    preferred, count = counts.most_common(1)[0]
    return preferred if 2 * count > len(votes) else None


def _pair(item: Item, votes: Sequence[Vote], winner: int, stands_on: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = item.answers[winner], item.answers[1 - winner]
    return {
        "id": f"desk-{item.id[:16]}",
        "prompt": item.prompt,
        CHOSEN: [{"role": "assistant", "content": chosen.content}],
        REJECTED: [{"role": "assistant", "content": rejected.content}],
        "provenance": {
            **stands_on,
            CHOSEN: {"system": chosen.system, **chosen.drawn},
            REJECTED: {"system": rejected.system, **rejected.drawn},
            "votes": _said(votes, {winner: CHOSEN, 1 - winner: REJECTED}),
        },
    }


def _tie(item: Item, votes: Sequence[Vote], stands_on: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"desk-{item.id[:16]}",
        "prompt": item.prompt,
        "answers": [answer.model_dump(mode="json") for answer in item.answers],
        "provenance": {**stands_on, "votes": _said(votes, {0: "answer 0", 1: "answer 1"})},
    }


def _said(votes: Sequence[Vote], names: Mapping[int, str]) -> dict[str, str]:
    """What each annotator said, by pseudonym."""
    return {
        vote.annotator: vote.choice if vote.preferred is None else names[vote.preferred]
        for vote in sorted(votes, key=lambda vote: vote.annotator)
    }


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
