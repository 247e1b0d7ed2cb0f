"""Keep what we score out of what we train on: by n-grams of words, and by equality of whole prompts."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.artifacts import Suites
from lifecycle.data.conversations import Message, prompt_key, user_text
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.data.minhash import blocks, hashed_words, pays_to_compile
from lifecycle.data.order import U64
from lifecycle.data.records import record_text
from lifecycle.data.words import BASE, WordTable

# An item of fewer words ("section: libs") is no fingerprint: it would flag half the corpus. Its prompt still counts.
MIN_ITEM_WORDS = 5

# A byte for each slot: at 16 a gram, 94 windows of 100 are done after one look, and the sieve still lies in the cache.
SIEVE_SLOTS_PER_GRAM = 16


class NgramRule(BaseModel):
    """A text is contaminated when it shares one n-gram with an item (Brown et al. 2020, appendix C: n from 8 to 13)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ngram_words: int = Field(
        13, ge=MIN_ITEM_WORDS, description="Words per n-gram. An item shorter than this is one n-gram as a whole."
    )
    common_item_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="An n-gram shared by more items than this (or by more than 10) is task wording, not an item.",
    )

    def common_above(self, items: int) -> int:
        """An n-gram in more items than this says nothing about which item it is from."""
        return max(1, min(10, math.floor(self.common_item_share * items)))


class Grams(NamedTuple):
    """The distinctive n-grams of one length, sorted, each with one item it occurs in."""

    length: int
    hashes: U64
    items: NDArray[np.int64]


class HeldOut:
    """The items of all suites, indexed by prompt and by n-gram."""

    def __init__(self, suites: Suites, rule: NgramRule) -> None:
        items = [(f"{suite}/{row['id']}", row) for suite in suites.items for row in load_rows(suites.file_of(suite))]
        self.names = [name for name, _ in items]
        self.prompts = {prompt_key(row["messages"]): name for name, row in items}
        self.grams = index_items([item_text(row) for _, row in items], rule)
        protected = set(np.concatenate([grams.items for grams in self.grams]).tolist()) if self.grams else set()
        self.facts = {
            "items": len(items),
            "items_without_a_distinctive_ngram": len(items) - len(protected),
            "distinctive_ngrams": sum(len(grams.hashes) for grams in self.grams),
        }

    def asked_in(self, messages: Sequence[Message]) -> str | None:
        """The item with the same prompt, up to case and white space."""
        return self.prompts.get(prompt_key(messages))

    def found_in(self, texts: Sequence[str]) -> dict[int, str]:
        """Index of each contaminated text -> an item it shares an n-gram with: of its shortest n-grams, the first."""
        return self.search(texts, compiled=pays_to_compile(texts))

    def search(self, texts: Iterable[str], *, compiled: bool) -> dict[int, str]:
        """The same for texts that are read as they are needed."""
        return {text: self.names[item] for text, item in found_in(self.grams, texts, compiled=compiled).items()}


def search_shard(texts: Callable[[], Iterator[str]], *, suites: str, rule: NgramRule, compiled: bool) -> dict[int, str]:
    """Of a shard's texts the number of each contaminated one, with an item of these suites that it shares words with.

    The suites come as JSON: a task for another process.
    """
    return held_out_items(suites, rule).search(texts(), compiled=compiled)


@lru_cache(maxsize=1)
def held_out_items(suites: str, rule: NgramRule) -> HeldOut:
    """The items of suites that are given as JSON, indexed once a process."""
    return HeldOut(Suites.model_validate_json(suites), rule)


def found_in(grams: Sequence[Grams], texts: Iterable[str], *, compiled: bool) -> dict[int, int]:
    """Index of each contaminated text -> number of an item. Compiled or not, the result is the same."""
    find = _compiled_search(grams) if compiled and grams else partial(_found, grams)
    found: dict[int, int] = {}
    start = 0
    for block in blocks(texts):
        found |= {start + text: item for text, item in find(block).items()}
        start += len(block)
    return found


def _found(grams: Sequence[Grams], texts: Sequence[str]) -> dict[int, int]:
    """Index of each contaminated text -> number of an item."""
    words = WordTable(texts)
    found: dict[int, int] = {}
    for known in grams:
        windows = words.windows(known.length)
        at = np.searchsorted(known.hashes, windows.hashes)
        at[at == len(known.hashes)] = 0
        for hit in np.flatnonzero(known.hashes[at] == windows.hashes):
            found.setdefault(int(windows.owners[hit]), int(known.items[at[hit]]))
    return found


def _compiled_search(grams: Sequence[Grams]) -> Callable[[Sequence[str]], dict[int, int]]:
    """The same by compiled loops."""
    from lifecycle.data import dedup_kernels  # imports numba

    hashes, items = np.concatenate([g.hashes for g in grams]), np.concatenate([g.items for g in grams])
    lengths = np.array([g.length for g in grams], np.int64)
    bounds = np.cumsum([0, *(len(g.hashes) for g in grams)]).astype(np.int64)
    sieve = np.zeros(1 << (SIEVE_SLOTS_PER_GRAM * len(hashes)).bit_length(), np.uint8)
    sieve[(hashes >> np.uint64(dedup_kernels.SIEVE_SHIFT)) & np.uint64(len(sieve) - 1)] = 1

    def found(texts: Sequence[str]) -> dict[int, int]:
        words, counts = hashed_words(texts)
        first = dedup_kernels.first_grams_found(words, counts, BASE, lengths, bounds, hashes, sieve)
        return {int(text): int(items[first[text]]) for text in np.flatnonzero(first >= 0)}

    return found


def item_text(row: Row) -> str:
    """The part of a row that is its own: the record when there is one, else what the user says."""
    return record_text(row["record"]) if "record" in row else user_text(row.get("prompt") or row["messages"])


def index_items(texts: Sequence[str], rule: NgramRule) -> list[Grams]:
    """Distinctive n-grams by length: windows of long items, short items whole."""
    words = WordTable(texts)
    index = []
    for length in range(MIN_ITEM_WORDS, rule.ngram_words + 1):
        grams = words.windows(length) if length == rule.ngram_words else words.whole(length)
        # Twice in one item counts once; the pairs come back sorted by hash, then by item.
        pairs = np.unique(np.stack([grams.hashes, grams.owners.astype(np.uint64)], axis=1), axis=0)
        hashes, first, times = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        kept = times <= rule.common_above(len(texts))
        if kept.any():
            index.append(Grams(length, hashes[kept], pairs[first[kept], 1].astype(np.int64)))
    return index
