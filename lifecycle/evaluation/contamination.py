"""How much of each suite occurs in the training text: measured on what was trained on, whatever was cleaned before."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lifecycle.artifacts import Contamination
from lifecycle.data.decontaminate import MIN_ITEM_WORDS, NgramRule, item_text
from lifecycle.data.jsonl import Row
from lifecycle.data.words import Grams, WordTable

EXAMPLES = 5


def contamination_of(
    suites: Mapping[str, Sequence[Row]], documents: Sequence[Row], rule: NgramRule
) -> dict[str, Contamination]:
    """For each suite, the items that share a distinctive n-gram with a document (rows with id and text).

    An item shorter than an n-gram counts when the whole of it occurs. N-grams in many items are task wording and do
    not count; an item that has no other is not `checked`. Brown et al. 2020, appendix C.
    """
    train = WordTable(row["text"] for row in documents)
    windows = {length: train.windows(length) for length in range(MIN_ITEM_WORDS, rule.ngram_words + 1)}
    return {name: _of_suite(rows, documents, windows, rule) for name, rows in suites.items()}


def _of_suite(
    rows: Sequence[Row], documents: Sequence[Row], windows: Mapping[int, Grams], rule: NgramRule
) -> Contamination:
    words = WordTable(item_text(row) for row in rows)
    checked: set[int] = set()
    found: dict[int, int] = {}
    for length, text in windows.items():
        grams = words.windows(length) if length == rule.ngram_words else words.whole(length)
        hashes, owners = _distinctive(grams, rule.common_above(len(rows)))
        checked.update(owners.tolist())
        if not len(hashes):
            continue
        at = np.minimum(np.searchsorted(hashes, text.hashes), len(hashes) - 1)
        hits = np.flatnonzero(hashes[at] == text.hashes)
        first = dict(zip(text.hashes[hits][::-1].tolist(), text.owners[hits][::-1].tolist(), strict=True))
        for gram, item in zip(hashes.tolist(), owners.tolist(), strict=True):
            if gram in first:
                found.setdefault(item, first[gram])
    return Contamination(
        items=len(rows),
        checked=len(checked),
        contaminated=len(found),
        ngram_words=rule.ngram_words,
        examples={rows[item]["id"]: _name(documents[found[item]]) for item in sorted(found)[:EXAMPLES]},
    )


def _distinctive(grams: Grams, common_above: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each n-gram that few items have, with every item that has it; sorted by n-gram."""
    # Twice in one item counts once.
    pairs = np.unique(np.stack([grams.hashes, grams.owners.astype(np.uint64)], axis=1), axis=0)
    _, place, times = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    kept = pairs[times[place] <= common_above]
    return kept[:, 0], kept[:, 1].astype(np.int64)


def _name(document: Row) -> str:
    return f"{document['source']}/{document['id']}" if "source" in document else str(document["id"])
