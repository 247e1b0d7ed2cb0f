"""Near-duplicate search against all pairs compared exactly."""

import random

import numpy as np

from lifecycle.data.dedup import NearDuplicates, best_of_each, first_copies, near_duplicate_clusters
from lifecycle.data.words import WordTable

VOCABULARY = [f"word{number}" for number in range(3_000)]


def texts_with_twins(count: int) -> list[str]:
    """Random texts of 80 words, each followed by a copy in which 0 to 3 words differ."""
    draw = random.Random(7)
    texts = []
    for number in range(count):
        words = draw.choices(VOCABULARY, k=80)
        texts.append(" ".join(words))
        for position in draw.sample(range(80), number % 4):
            words[position] = draw.choice(VOCABULARY)
        texts.append(" ".join(words))
    return texts


def exact_jaccard(left: str, right: str) -> float:
    sets = [set(zip(*(text.split()[start:] for start in range(5)), strict=False)) for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_pairs_of_high_similarity_are_found_and_no_others():
    texts = texts_with_twins(300)
    cluster = near_duplicate_clusters(WordTable(texts), NearDuplicates()).cluster
    similar = [i for i in range(0, 600, 2) if exact_jaccard(texts[i], texts[i + 1]) >= 0.8]
    found = [i for i in similar if cluster[i] == cluster[i + 1]]
    assert len(similar) > 100
    assert len(found) >= 0.97 * len(similar)  # 14 bands of 8 find 92 % at .80, and most pairs here are above it
    for i in range(600):
        assert cluster[i] == i or exact_jaccard(texts[i], texts[int(cluster[i])]) >= 0.75


def test_the_clusters_do_not_depend_on_how_texts_are_chunked(monkeypatch):
    texts = texts_with_twins(60)
    whole = near_duplicate_clusters(WordTable(texts), NearDuplicates())
    monkeypatch.setattr("lifecycle.data.dedup.CHUNK_SHINGLES", 100)
    chunked = near_duplicate_clusters(WordTable(texts), NearDuplicates())
    assert np.array_equal(whole.cluster, chunked.cluster)


def test_texts_without_words_are_no_duplicates_of_each_other():
    assert list(near_duplicate_clusters(WordTable(["...", "!!!", ""]), NearDuplicates()).cluster) == [0, 1, 2]
    assert list(near_duplicate_clusters(WordTable([]), NearDuplicates()).cluster) == []


def test_a_chain_of_copies_is_one_cluster():
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[start : start + 50]) for start in range(4)]
    assert len(set(near_duplicate_clusters(WordTable(chain), NearDuplicates()).cluster)) == 1


def test_the_longest_of_a_cluster_stays_and_the_first_of_several_as_long():
    assert best_of_each([0, 0, 2, 2], ["short", "longer one", "same", "size"]) == {0: 1, 2: 2}


def test_exact_copies_point_to_the_first():
    assert first_copies(["a", "b", "a", "A"]) == [0, 1, 0, 3]
