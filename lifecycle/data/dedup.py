"""Exact and near duplicates among texts in memory; near_duplicates.py does it for more text than fits."""

from collections.abc import Sequence
from pathlib import Path

from lifecycle.data.minhash import NearDuplicates, pays_to_compile
from lifecycle.data.near_duplicates import Clusters, near_duplicates


def first_copies(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first equal one: its own index when it is new."""
    first: dict[str, int] = {}
    return [first.setdefault(text, i) for i, text in enumerate(texts)]


def near_duplicate_clusters(texts: Sequence[str], rule: NearDuplicates, *, scratch: Path) -> Clusters:
    """Texts joined wherever two share enough shingles."""
    return near_duplicates([lambda: texts], rule, scratch=scratch, compiled=pays_to_compile(texts))
