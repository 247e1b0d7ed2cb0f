"""Near-duplicate search against exact Jaccard of all pairs and against datasketch; its memory; its independence."""

import shutil
import tracemalloc
from functools import partial

import datasketch
import numpy as np
import pytest
from near_copies import shard_of_twins, texts_with_twins

from lifecycle.data import near_duplicates as module
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.near_duplicates import bands_that_suffice, declared_bytes, match_band, merge_bands, near_duplicates
from lifecycle.data.runs import find_runs, write_run
from lifecycle.engines import Processes, Threads
from lifecycle.errors import InputError
from lifecycle.spread import spreading_over

RULE = NearDuplicates()


def shingles(text: str) -> set[tuple[str, ...]]:
    return set(zip(*(text.split()[start:] for start in range(5)), strict=False))


def exact_jaccard(left: str, right: str) -> float:
    a, b = shingles(left), shingles(right)
    return len(a & b) / len(a | b)


def search(texts, scratch, **settings):
    return near_duplicates([lambda: texts], RULE, scratch=scratch, **{"compiled": False, **settings})


def test_similar_pairs_are_found_and_no_others(tmp_path):
    texts = texts_with_twins(450)
    cluster = search(texts, tmp_path).cluster
    twins = [(i, exact_jaccard(texts[i], texts[i + 1])) for i in range(0, len(texts), 2)]
    similar = [i for i, jaccard in twins if jaccard >= 0.8]
    assert len(similar) > 100
    assert sum(cluster[i] == cluster[i + 1] for i in similar) >= 0.97 * len(similar)
    assert all(cluster[i] != cluster[i + 1] for i, jaccard in twins if jaccard < 0.75)
    assert all(cluster[i] in (i, i - 1) for i in range(len(texts)))  # nobody but twins


def test_recall_is_that_of_datasketch_at_equal_parameters(tmp_path):
    texts = texts_with_twins(900, seed=11, most_changes=4)
    similar = [i for i in range(0, len(texts), 2) if exact_jaccard(texts[i], texts[i + 1]) >= 0.8]
    functions = RULE.bands * RULE.rows_per_band
    index = datasketch.MinHashLSH(num_perm=functions, params=(RULE.bands, RULE.rows_per_band))
    theirs = 0
    for i in similar:
        for text in (i, i + 1):
            minhash = datasketch.MinHash(num_perm=functions)
            minhash.update_batch([" ".join(shingle).encode() for shingle in shingles(texts[text])])
            theirs += text == i + 1 and i in index.query(minhash)
            index.insert(text, minhash)
    cluster = search(texts, tmp_path).cluster
    ours = sum(cluster[i] == cluster[i + 1] for i in similar)
    assert len(similar) > 400
    assert ours >= theirs - 0.01 * len(similar)


def test_the_same_clusters_whatever_the_shards_the_memory_and_the_loops(tmp_path):
    texts = texts_with_twins(300)
    whole = search(texts, tmp_path)
    for parts, settings in ((1, {"compiled": True}), (5, {"bytes_per_task": 2**16}), (3, {"compiled": True})):
        shards = [partial(shard_of_twins, 300, parts, number) for number in range(parts)]
        again = near_duplicates(shards, RULE, scratch=tmp_path, **{"compiled": False, **settings})
        assert np.array_equal(again.cluster, whole.cluster)
        assert again[1:] == whole[1:]


@pytest.mark.parametrize("engine", [Threads(2), Threads(4), Processes(2), Processes(4)])
def test_the_same_clusters_with_one_two_and_four_workers(tmp_path, engine):
    shards = [partial(shard_of_twins, 150, 6, number) for number in range(6)]
    alone = near_duplicates(shards, RULE, scratch=tmp_path, compiled=False)
    with spreading_over(engine):
        together = near_duplicates(shards, RULE, scratch=tmp_path, compiled=False)
    assert np.array_equal(together.cluster, alone.cluster)
    assert together[1:] == alone[1:]
    assert alone.verified_pairs > 0


def test_a_bucket_too_big_for_a_task_gives_the_same_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLLOWERS", 4)
    texts = ["the same boilerplate in every one of these texts " + "and more" * (i % 2) for i in range(60)]
    starts = np.array([0, 20, 40, 60])
    pairs = []
    for bytes_per_task in (2**20, 10 * module.BYTES_PER_KEY):
        for number in range(3):
            job = number, partial(texts.__getitem__, slice(20 * number, 20 * number + 20))
            module.index_shard(job, rule=RULE, scratch=tmp_path, bytes_per_task=2**20, compiled=False)
        shutil.rmtree(tmp_path / "pairs", ignore_errors=True)
        match_band(0, starts=starts, scratch=tmp_path, bytes_per_task=bytes_per_task)
        runs = find_runs(tmp_path / "pairs")
        pairs.append({(int(a), int(b)) for run in runs for a, b in zip(run.keys(), run.values(), strict=True)})
    assert pairs[0] == pairs[1]
    assert {b for _, b in pairs[0]} >= set(range(2, 60))  # everyone but the first of each bucket hangs on somebody
    leads = [sum(a == leader for a, _ in pairs[0]) for leader in range(60)]
    assert max(leads) <= 4 + 1


def test_a_chain_of_copies_is_one_cluster(tmp_path):
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[start : start + 50]) for start in range(4)]
    assert len(set(search(chain, tmp_path).cluster)) == 1


def test_texts_without_words_are_no_duplicates_of_each_other(tmp_path):
    assert list(search(["...", "!!!", ""], tmp_path).cluster) == [0, 1, 2]
    assert list(search([], tmp_path).cluster) == []


def test_a_pair_is_not_read_again_when_its_bands_leave_no_doubt():
    """At Jaccard .75 a band of 8 rows is shared with p = .100: 10 of 14 of them with chance 7e-8, 9 with 1.4e-6."""
    assert bands_that_suffice(RULE) == 10
    assert bands_that_suffice(NearDuplicates(bands=2, rows_per_band=3)) == 3  # more than there are: never


def test_a_shard_too_big_for_a_task_is_refused(tmp_path):
    with pytest.raises(InputError, match="at most 40 documents in shard 0"):
        search(texts_with_twins(30), tmp_path, bytes_per_task=40 * (32 + 16 * RULE.bands))


@pytest.mark.parametrize("bytes_per_task", [2**22, 2**23])
def test_matching_and_merging_stay_within_their_memory(tmp_path, bytes_per_task):
    """Three times and more what fits at once: 300,000 texts, each twice in every band."""
    draw = np.random.default_rng(1)
    rule = NearDuplicates(bands=3)
    half = 150_000
    for band in range(rule.bands):
        keys = draw.integers(1, 2**63, half, dtype=np.uint64)
        for shard in range(2):
            order = np.argsort(keys)
            write_run(tmp_path / f"band-{band:03}" / f"{shard:06}.run", keys[order], order, np.uint32)
    starts = np.array([0, half, 2 * half])
    tracemalloc.start()
    for band in range(rule.bands):
        match_band(band, starts=starts, scratch=tmp_path, bytes_per_task=bytes_per_task)
    candidates, sure = merge_bands(rule, 2 * half, tmp_path, bytes_per_task)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert candidates == half
    assert sure == 0  # three bands never leave no doubt
    assert peak <= bytes_per_task


def test_a_whole_search_stays_within_the_declared_memory(tmp_path):
    def shard(number: int) -> list[str]:
        return texts_with_twins(500, seed=number)

    shards = [partial(shard, number) for number in range(4)]
    near_duplicates(shards[:1], RULE, scratch=tmp_path, bytes_per_task=2**20)  # load the loops
    tracemalloc.start()
    near_duplicates(shards, RULE, scratch=tmp_path, bytes_per_task=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= declared_bytes(4_000, 2**20)
