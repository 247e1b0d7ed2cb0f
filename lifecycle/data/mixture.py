"""How much of each source goes in, and which documents are held out. Choices are by hash of a document's name:
adding a document moves no other."""

from collections.abc import Sequence

from lifecycle.data.documents import Document, Source
from lifecycle.data.order import hash64


def over_cap(documents: Sequence[Document], sources: Sequence[Source], *, seed: int) -> set[int]:
    """Indices of the documents beyond `max_bytes` of their source, taken in hashed order."""
    beyond: set[int] = set()
    for source in sources:
        if source.max_bytes is None:
            continue
        taken = 0
        for index in _by_hash(documents, source.name, "cap", seed):
            taken += len(documents[index].text.encode())
            if taken > source.max_bytes:
                beyond.add(index)
    return beyond


def validation_split(documents: Sequence[Document], sources: Sequence[Source], *, share: float, seed: int) -> set[int]:
    """Indices of the documents held out: `share` of each source, at least one where it has two.

    The documents must be what near-duplicate search left, one of each cluster: then no twin is on the other side.
    """
    held_out: set[int] = set()
    for source in sources:
        order = _by_hash(documents, source.name, "validation", seed)
        if share > 0 and len(order) > 1:
            held_out.update(order[: max(1, round(share * len(order)))])
    return held_out


def _by_hash(documents: Sequence[Document], source: str, purpose: str, seed: int) -> list[int]:
    own = [index for index, document in enumerate(documents) if document.source == source]
    return sorted(own, key=lambda index: (hash64(purpose, seed, source, documents[index].id), documents[index].id))
