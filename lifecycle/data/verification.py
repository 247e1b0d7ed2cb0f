"""Candidates compared exactly: the shingles of the texts in question on disk, and Jaccard of their sets."""

from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.minhash import NearDuplicates, shingle_sets
from lifecycle.data.order import U64
from lifecycle.data.runs import Run, write_run

I64 = NDArray[np.int64]

SHINGLES_AT_A_TIME = 2**19  # of the texts compared together; 8 bytes each, 4 times over


def write_sets(
    job: tuple[int, Callable[[], Iterable[str]], NDArray[np.bool_]],
    *,
    rule: NearDuplicates,
    scratch: Path,
    compiled: bool,
) -> None:
    """Write the distinct shingles of a shard's wanted texts, and a run of (place in the shard, where its set ends)."""
    number, texts, wanted = job
    folder = scratch / "sets"
    folder.mkdir(exist_ok=True)
    sizes = []
    part = folder / f"{number:06}.{uuid4().hex}.part"
    with part.open("wb") as file:
        for hashes, counts in shingle_sets(compress(texts(), wanted), rule, compiled=compiled):
            hashes.tofile(file)
            sizes.append(counts)
    part.replace(folder / f"{number:06}.hashes")
    write_run(folder / f"{number:06}.run", np.flatnonzero(wanted), np.cumsum(np.concatenate(sizes)))


def are_duplicates(run: Run, *, starts: I64, rule: NearDuplicates, scratch: Path, compiled: bool) -> NDArray[np.bool_]:
    """Whether each pair of a run has a Jaccard similarity of `min_jaccard` or more."""
    left, right = run.keys().astype(np.int64), run.values().astype(np.int64)
    texts = np.unique(np.concatenate([left, right]))
    shards, begins, ends = _find_sets(texts, starts, scratch)
    a, b = np.searchsorted(texts, left), np.searchsorted(texts, right)
    sizes = ends - begins
    common = np.empty(len(left), np.int64)
    for rows in _bounded(sizes[a] + sizes[b]):
        some, places = np.unique(np.concatenate([a[rows], b[rows]]), return_inverse=True)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[some])])
        values = _gather(shards[some], begins[some], bounds, scratch)
        pairs = places[: len(places) // 2], places[len(places) // 2 :]
        common[rows] = _common_counts(values, bounds, *pairs, compiled=compiled)
    return common / (sizes[a] + sizes[b] - common) >= rule.min_jaccard


def _find_sets(texts: I64, starts: I64, scratch: Path) -> tuple[I64, I64, I64]:
    """For each text its shard, and where its set begins and ends in the shard's file."""
    shards = np.searchsorted(starts, texts, side="right") - 1
    begins, ends = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    for shard in np.unique(shards):
        here = shards == shard
        index = Run(scratch / "sets" / f"{shard:06}.run", np.uint64)
        stops = index.values().astype(np.int64)
        rows = np.searchsorted(index.keys(), (texts[here] - starts[shard]).astype(np.uint64))
        ends[here] = stops[rows]
        begins[here] = np.where(rows > 0, stops[rows - 1], 0)
    return shards, begins, ends


def _bounded(sizes: I64) -> Iterator[slice]:
    """Slices of the pairs that need about SHINGLES_AT_A_TIME each, and always one pair at least."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        so_far = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, so_far + SHINGLES_AT_A_TIME, side="right")))
        yield slice(first, last)
        first = last


def _gather(shards: I64, begins: I64, bounds: I64, scratch: Path) -> U64:
    """The sets one after the other, set i at `bounds[i]:bounds[i + 1]`."""
    values = np.empty(bounds[-1], np.uint64)
    for shard in np.unique(shards):
        hashes = np.memmap(scratch / "sets" / f"{shard:06}.hashes", np.uint64, "r").view(np.ndarray)
        for i in np.flatnonzero(shards == shard):
            size = bounds[i + 1] - bounds[i]
            values[bounds[i] : bounds[i + 1]] = hashes[begins[i] : begins[i] + size]
    return values


def _common_counts(values: U64, bounds: I64, left: I64, right: I64, *, compiled: bool) -> I64:
    """For each pair of sets how many values both hold."""
    if compiled:
        from lifecycle.data import dedup_kernels  # imports numba

        return dedup_kernels.common_counts(values, bounds, left, right)
    sets = [values[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)]
    common = [len(np.intersect1d(sets[a], sets[b], assume_unique=True)) for a, b in zip(left, right, strict=True)]
    return np.array(common, np.int64)
