"""Which documents are held out for validation: a share of each source, and never a part of a cluster."""

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.corpus_report import Validation
from lifecycle.data.order import U64
from lifecycle.data.selection import Selection

I64 = NDArray[np.int64]


def hold_out(selection: Selection, cluster: I64, *, share: float) -> tuple[NDArray[np.bool_], dict[str, Validation]]:
    """Whether each document is held out, and what that makes of each source; `cluster` labels those that are in."""
    catalogue = selection.catalogue
    documents = catalogue.documents()
    held_out = np.zeros(len(catalogue), bool)
    held_out[documents] = validation_split(
        catalogue.places[documents], catalogue.source_of[documents], cluster[documents], share=share
    )
    own = [catalogue.of_source(number) for number in range(len(selection.sources))]
    asked = documents_asked(np.array([len(documents) for documents in own]), share)
    facts = {
        name: Validation(asked_documents=int(number), **selection.tally(documents[held_out[documents]]).model_dump())
        for name, documents, number in zip(selection.sources, own, asked, strict=True)
    }
    return held_out, facts


def validation_split(places: U64, source_of: NDArray[np.integer], cluster: I64, *, share: float) -> NDArray[np.bool_]:
    """Whether each document is held out: `share` of each source, at least one where it has two.

    Documents are asked in the hashed order of their names. One of a cluster brings all of it, whichever sources they
    are of; where that would be too many for one of the sources, they all stay in training. So a source whose documents
    are all one cluster holds nothing out, and no source more than its share.
    """
    counts = np.bincount(source_of)
    target = documents_asked(counts, share)
    held_out = np.zeros(len(places), bool)
    held = np.zeros(len(counts), np.int64)
    members = _clusters_of_several(cluster)
    too_large: set[int] = set()  # and so for good: what is held only grows
    for source in range(len(counts)):
        own = np.flatnonzero(source_of == source)
        for document in map(int, own[np.argsort(places[own], kind="stable")]):  # only the first few are asked
            if held[source] >= target[source]:
                break
            label = int(cluster[document])
            if held_out[document] or label in too_large:
                continue
            together = members.get(label)
            if together is None:
                held_out[document] = True
                held[source] += 1
                continue
            more = np.bincount(source_of[together], minlength=len(counts))
            if (held + more > target).any():
                too_large.add(label)
                continue
            held_out[together] = True
            held += more
    return held_out


def documents_asked(counts: I64, share: float) -> I64:
    """How many to hold out of each source that has so many: at least one where it has two."""
    return np.where(counts > 1, np.maximum(1, np.rint(share * counts)), 0).astype(np.int64)


def _clusters_of_several(cluster: I64) -> dict[int, I64]:
    """Label -> documents, for clusters of two or more."""
    counts = np.bincount(cluster)
    shared = np.flatnonzero(counts[cluster] > 1)
    shared = shared[np.argsort(cluster[shared], kind="stable")]
    labels = np.flatnonzero(counts > 1)
    ends = np.cumsum(counts[labels])
    return {label: shared[end - counts[label] : end] for label, end in zip(labels.tolist(), ends.tolist(), strict=True)}
