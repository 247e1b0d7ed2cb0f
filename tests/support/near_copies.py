"""Texts with near copies, in shards that other processes can make too."""

import random

VOCABULARY = [f"word{number}" for number in range(3_000)]


def texts_with_twins(count: int, seed: int = 7, most_changes: int = 8) -> list[str]:
    """Random texts of 80 words, each followed by a copy in which 0 to `most_changes` words differ."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        words = draw.choices(VOCABULARY, k=80)
        texts.append(" ".join(words))
        for position in draw.sample(range(80), number % (most_changes + 1)):
            words[position] = draw.choice(VOCABULARY)
        texts.append(" ".join(words))
    return texts


def shard_of_twins(count: int, parts: int, number: int) -> list[str]:
    """One of `parts` shards of them."""
    texts = texts_with_twins(count)
    return texts[number * len(texts) // parts : (number + 1) * len(texts) // parts]
