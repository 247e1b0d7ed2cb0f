"""Near-duplicate search out of core: shards of text -> sorted keys per band -> pairs -> clusters.

Every step is a function of files in a scratch folder, may run again, even late, and beside its like: `spread` runs it
wherever the engine says. The clusters depend on the texts and the rule alone.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.clusters import flatten, join_pairs, roots_of
from lifecycle.data.minhash import NearDuplicates, band_keys
from lifecycle.data.runs import Range, Run, find_runs, ranges, write_run
from lifecycle.data.verification import are_duplicates, write_sets
from lifecycle.errors import InputError
from lifecycle.spread import spread

I64 = NDArray[np.int64]
Pairs = tuple[I64, I64]
Shard = Callable[[], Iterable[str]]

# Bytes at the peak for each row that a task sorts or holds; the tests hold every task to them.
BYTES_PER_KEY = 80
BYTES_PER_PAIR = 120
BYTES_PER_DOCUMENT_OF_SHARD = 32  # and two times its keys
# In the process that joins, for every document: its parent, and whether its shingles are wanted.
BYTES_PER_DOCUMENT = 10
FIXED_BYTES = 48 * 2**20  # a block of text with its words and shingles, the table of characters
PAIRS_PER_TASK = 2**16
# In a bucket a document meets its predecessor and its leader: cost grows with the bucket, not with its square, and no
# document leads more than this many others of one band, so that its pairs always fit into a task.
FOLLOWERS = 2**12
# A pair that shares so many bands that a pair just below min_jaccard does so once in a million is not read again.
UNREAD_ERROR = 1e-6


class Clusters(NamedTuple):
    """For each text the smallest index in its cluster (its own when it has no duplicate), and the pairs behind it."""

    cluster: I64
    candidate_pairs: int  # share a band, and are leader and follower or neighbours in it
    unread_pairs: int  # of them: share so many bands that nobody reads them again
    compared_pairs: int  # of the others: not in one cluster anyway, so their shingles were compared
    verified_pairs: int  # of these: similar enough


def declared_bytes(documents: int, bytes_per_task: int, tasks: int = 1) -> int:
    """The most memory a search takes in all, beside the interpreter: known before it starts, and kept."""
    return tasks * (FIXED_BYTES + bytes_per_task) + BYTES_PER_DOCUMENT * documents


def documents_per_task(rule: NearDuplicates, bytes_per_task: int) -> int:
    """The most documents that a shard may have."""
    return bytes_per_task // (BYTES_PER_DOCUMENT_OF_SHARD + 16 * rule.bands)


def near_duplicates(
    shards: Sequence[Shard],
    rule: NearDuplicates,
    *,
    scratch: Path,
    bytes_per_task: int = 256 * 2**20,
    compiled: bool = True,
) -> Clusters:
    """Texts joined wherever two share enough shingles; their numbers run through the shards in order.

    For an engine of other processes a shard has to be picklable: a partial of a module's function.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    index = partial(index_shard, rule=rule, scratch=scratch, bytes_per_task=bytes_per_task, compiled=compiled)
    sizes = spread(index, list(enumerate(shards)), unit="shards", note="near duplicates: shards hashed")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    match = partial(match_band, starts=starts, scratch=scratch, bytes_per_task=bytes_per_task)
    spread(match, range(rule.bands), unit="bands", note="near duplicates: bands matched")
    candidates, unread = merge_bands(rule, int(starts[-1]), scratch, bytes_per_task)
    parents = np.arange(starts[-1])
    _join(parents, _read(scratch / "sure"), compiled)
    wanted, compared = _open_questions(parents, scratch)
    extract = partial(write_sets, rule=rule, scratch=scratch, compiled=compiled)
    jobs = [(i, shard, wanted[starts[i] : starts[i + 1]]) for i, shard in enumerate(shards)]
    jobs = [job for job in jobs if job[2].any()]
    spread(extract, jobs, unit="shards", note="near duplicates: shards read again")
    verify = partial(verify_pairs, starts=starts, rule=rule, scratch=scratch, compiled=compiled)
    verified = sum(spread(verify, find_runs(scratch / "open"), unit="pairs", note="near duplicates: pairs compared"))
    _join(parents, _read(scratch / "similar"), compiled)
    flatten(parents)
    return Clusters(parents, candidates, unread, compared, verified)


def index_shard(
    job: tuple[int, Shard], *, rule: NearDuplicates, scratch: Path, bytes_per_task: int, compiled: bool
) -> int:
    """Write a sorted run of (key, place in the shard) for each band, and return how many texts the shard has."""
    number, texts = job
    most = documents_per_task(rule, bytes_per_task)
    blocks, size = [], 0
    for block in band_keys(texts(), rule, compiled=compiled):
        blocks.append(block)
        size += len(block)
        if size > most:
            raise InputError(
                f"expected at most {most} documents in shard {number}, what {bytes_per_task} bytes a task hold, "
                f"found more. Cut the input into smaller shards, or raise bytes_per_task."
            )
    keys = np.concatenate(blocks) if blocks else np.empty((0, rule.bands), np.uint64)
    del blocks
    for band in range(rule.bands):
        column = np.ascontiguousarray(keys[:, band])
        order = np.argsort(column, kind="stable")
        order = order[np.searchsorted(column, 0, side="right", sorter=order) :]  # texts without words have key 0
        write_run(scratch / f"band-{band:03}" / f"{number:06}.run", column[order], order, np.uint32)
    return size


def match_band(band: int, *, starts: I64, scratch: Path, bytes_per_task: int) -> None:
    """Write the pairs of texts that share a key of this band, sorted."""
    folder = scratch / "pairs" / f"band-{band:03}"
    folder.parent.mkdir(exist_ok=True)
    runs = find_runs(scratch / f"band-{band:03}", np.uint32)
    most = max(1, bytes_per_task // BYTES_PER_KEY)
    for number, found in enumerate(ranges(runs, max_rows=most)):
        chunks = _pairs_of_one_key(found, starts) if found.rows > most else [_pairs_of_keys(found, starts)]
        for part, (left, right) in enumerate(chunks):
            order = np.lexsort((right, left))
            write_run(folder / f"{number:06}-{part:06}.run", left[order], right[order])


def _pairs_of_keys(found: Range, starts: I64) -> Pairs:
    parts = [(keys, places + starts[run.number]) for run, keys, places in found.parts()]
    keys, texts = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    order = np.argsort(keys, kind="stable")  # runs come in the order of their shards: texts stay in theirs
    keys, texts = keys[order], texts[order]
    follows = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    first = np.arange(len(keys))
    first[follows] = 0
    np.maximum.accumulate(first, out=first)
    leader = first[follows] + (follows - 1 - first[follows]) // FOLLOWERS * FOLLOWERS
    far = leader < follows - 1
    return np.concatenate([texts[leader[far]], texts[follows - 1]]), np.concatenate(
        [texts[follows[far]], texts[follows]]
    )


def _pairs_of_one_key(found: Range, starts: I64) -> Iterator[Pairs]:
    """The same for one bucket that is too big for a task, a shard at a time."""
    seen = 0
    leaders = np.empty(0, np.int64)
    previous = np.empty(0, np.int64)
    for run, _, places in found.parts():
        texts = places + starts[run.number]
        position = np.arange(seen, seen + len(texts))
        leaders = np.concatenate([leaders, texts[position % FOLLOWERS == 0]])
        before = np.concatenate([previous, texts[:-1]])
        texts_behind, position = texts[len(texts) - len(before) :], position[len(texts) - len(before) :]
        leader = leaders[(position - 1) // FOLLOWERS]
        far = leader != before
        yield np.concatenate([leader[far], before]), np.concatenate([texts_behind[far], texts_behind])
        seen, previous = seen + len(texts), texts[-1:]


def merge_bands(rule: NearDuplicates, documents: int, scratch: Path, bytes_per_task: int) -> tuple[int, int]:
    """Write every pair once, the sure ones apart; return how many there are, and how many of them are sure."""
    runs = find_runs(scratch / "pairs")
    enough = bands_that_suffice(rule)
    candidates = sure = 0
    most = max(bytes_per_task // BYTES_PER_PAIR, 1)
    for number, found in enumerate(ranges(runs, max_rows=most, high=documents)):
        columns = [(keys.astype(np.int64), values) for _, keys, values in found.parts()]
        left, right = (np.concatenate(column) for column in zip(*columns, strict=True))
        del columns
        order = np.lexsort((right, left))
        left, right = left[order], right[order]
        first = np.flatnonzero(np.concatenate([[True], (left[1:] != left[:-1]) | (right[1:] != right[:-1])]))
        is_sure = np.diff(np.append(first, len(left))) >= enough
        for name, chosen in (("sure", first[is_sure]), ("doubtful", first[~is_sure])):
            for start in range(0, len(chosen), PAIRS_PER_TASK):
                rows = chosen[start : start + PAIRS_PER_TASK]
                write_run(scratch / name / f"{number:06}-{start // PAIRS_PER_TASK:06}.run", left[rows], right[rows])
        candidates += len(first)
        sure += int(is_sure.sum())
    return candidates, sure


def bands_that_suffice(rule: NearDuplicates) -> int:
    """The fewest shared bands that a pair with Jaccard `min_jaccard` reaches with a chance below UNREAD_ERROR.

    A band is shared with probability p = J ^ rows_per_band, so their number is binomial. More than `bands`: never.
    """
    p = rule.min_jaccard**rule.rows_per_band
    chance = 0.0
    for shared in range(rule.bands, -1, -1):
        chance += math.comb(rule.bands, shared) * p**shared * (1 - p) ** (rule.bands - shared)
        if chance >= UNREAD_ERROR:
            return shared + 1
    return 0


def _open_questions(parents: I64, scratch: Path) -> tuple[NDArray[np.bool_], int]:
    """Write the doubtful pairs that would join two clusters; return whose shingles they need, and how many they are."""
    wanted = np.zeros(len(parents), bool)
    pairs = 0
    for run in find_runs(scratch / "doubtful"):
        left, right = _pairs_of(run)
        apart = roots_of(parents, left) != roots_of(parents, right)
        if apart.any():
            write_run(scratch / "open" / run.path.name, left[apart], right[apart])
        wanted[left[apart]] = wanted[right[apart]] = True
        pairs += int(apart.sum())
    return wanted, pairs


def verify_pairs(run: Run, *, starts: I64, rule: NearDuplicates, scratch: Path, compiled: bool) -> int:
    """Write the pairs of a run that are similar enough, and return how many they are."""
    similar = are_duplicates(run, starts=starts, rule=rule, scratch=scratch, compiled=compiled)
    left, right = _pairs_of(run)
    write_run(scratch / "similar" / run.path.name, left[similar], right[similar])
    return int(similar.sum())


def _pairs_of(run: Run) -> Pairs:
    return run.keys().astype(np.int64), run.values().astype(np.int64)


def _read(folder: Path) -> Iterator[Pairs]:
    return (_pairs_of(run) for run in find_runs(folder))


def _join(parents: I64, pairs: Iterable[Pairs], compiled: bool) -> None:
    join = join_pairs
    if compiled:
        from lifecycle.data import dedup_kernels  # imports numba

        join = dedup_kernels.join_pairs
    for left, right in pairs:
        join(parents, left, right)
