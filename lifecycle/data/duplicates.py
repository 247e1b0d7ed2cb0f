"""Which documents are dropped as repetitions: of an id in their source, of a text, nearly of a text."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.clusters import flatten, join_pairs, kept_of_each
from lifecycle.data.corpus_report import Duplicates
from lifecycle.data.dedup import first_copies
from lifecycle.data.minhash import COMPILED_FROM_CHARACTERS, NearDuplicates
from lifecycle.data.near_duplicates import documents_per_task, near_duplicates
from lifecycle.data.selection import Selection

I64 = NDArray[np.int64]


def drop_repeated_ids(selection: Selection) -> dict[str, str]:
    """Of a source's clean documents with the same id the first stays. Source -> the first that went, for a message."""
    repeated = [np.empty(0, np.int64)]
    first = {}
    for number, source in enumerate(selection.sources):
        documents = selection.catalogue.of_source(number)
        again = documents[first_copies(selection.catalogue.ids(number)) != np.arange(len(documents))]
        repeated.append(again)
        if len(again):
            first[source] = f"{selection.name(again[0])}: row_repeated_id"
    selection.drop("repeated_ids", "row_repeated_id", np.concatenate(repeated), lambda _: "an earlier row has this id")
    return first


def find_copies(selection: Selection, *, drop: bool, reason: str = "duplicate_exact") -> I64:
    """For every document the first one with the same text; the others are dropped, if asked for."""
    documents = selection.catalogue.documents()
    first = np.arange(len(selection.catalogue))
    first[documents] = documents[first_copies(selection.catalogue.texts[documents])]
    if drop:
        copies = documents[first[documents] != documents]
        selection.drop("exact_duplicates", reason, copies, lambda d: f"copy of {selection.name(first[d])}")
    return first


def find_near_copies(
    selection: Selection,
    first: I64,
    rule: NearDuplicates,
    *,
    drop: bool,
    scratch: Path,
    shard_bytes: int,
    bytes_per_task: int,
    longest: bool = True,
) -> tuple[I64, Duplicates]:
    """For every document that is in the label of its cluster, which it shares with all copies and near-copies of it.

    Of a cluster the longest stays (else the first), and the first of several as long; the others are dropped, if asked
    for.
    """
    catalogue = selection.catalogue
    documents = catalogue.documents()
    readers = catalogue.readers(documents=max(1, documents_per_task(rule, bytes_per_task)), size=shard_bytes)
    found = near_duplicates(
        [reader.texts for reader in readers],
        rule,
        scratch=scratch,
        bytes_per_task=bytes_per_task,
        compiled=catalogue.characters_in() >= COMPILED_FROM_CHARACTERS,
    )
    worth = catalogue.characters[documents].astype(np.int64) if longest else np.ones(len(documents), np.int64)
    kept = documents[kept_of_each(found.cluster, worth)]
    copies = np.flatnonzero(kept != documents)
    selection.drop(
        "near_duplicates",
        "duplicate_near",
        documents[copies] if drop else documents[:0],
        lambda document: f"copy of {selection.name(kept[np.searchsorted(documents, document)])}",
    )
    cluster = np.arange(len(catalogue))
    cluster[documents] = documents[found.cluster]
    exact = documents[first[documents] != documents]  # none where they were dropped
    join_pairs(cluster, exact, first[exact])
    flatten(cluster)
    sizes = Counter(np.bincount(found.cluster)[np.unique(found.cluster[copies])].tolist())
    return cluster, Duplicates(
        candidate_pairs=found.candidate_pairs,
        verified_pairs=found.unread_pairs + found.verified_pairs,
        clusters=sizes.total(),
        documents=sum(size * count for size, count in sizes.items()),
        cluster_sizes=dict(sorted(sizes.items())),
    )
