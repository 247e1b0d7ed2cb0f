"""Near-duplicate search, from texts in memory to the set of texts that stay, at 5-word shingles and 14 x 8 bands."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.data_rows import Row, compare
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.near_duplicates import near_duplicates
from lifecycle.data.words import split_words

RULE = NearDuplicates()
FUNCTIONS = RULE.bands * RULE.rows_per_band


def rows(corpus_dir: Path) -> list[Row]:
    """One row for each of datasketch, rensa and datatrove."""
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = list(dict.fromkeys(orjson.loads(line)["text"] for line in file))
    some = texts[: len(texts) // 4] + texts[-len(texts) // 4 :]
    megabytes = sum(len(text.encode()) for text in some) / 1e6
    prove(some)
    peers = (
        ("datasketch", datasketch_drops, 10),
        ("rensa", rensa_drops, 5),
        ("datatrove, whitespace words", datatrove_drops, 20),
    )
    return [
        compare(
            f"near duplicates | {name}",
            lambda: our_drops(some),
            lambda drops=drops: drops(some),
            megabytes=megabytes,
            at_least=bar,
        )
        for name, drops, bar in peers
    ]


def prove(texts: Sequence[str]) -> None:
    """Everyone drops nearly the same texts: of what each peer drops we drop 97 % (a peer verifies less, or nothing)."""
    ours = our_drops(texts)
    for peer in (datasketch_drops, rensa_drops, datatrove_drops):
        theirs = peer(texts)
        both = len(ours & theirs)
        print(f"{peer.__name__}: {len(theirs)} drops, ours {len(ours)}, in both {both}")
        if both < 0.97 * min(len(ours), len(theirs)):
            raise SystemExit(
                f"expected the same drops from {peer.__name__}, found {both} of {len(theirs)} and {len(ours)}"
            )


def our_drops(texts: Sequence[str]) -> set[int]:
    """All but the first text of each cluster."""
    with tempfile.TemporaryDirectory() as scratch:
        cluster = near_duplicates([lambda: texts], RULE, scratch=Path(scratch) / "near").cluster
    return set(np.flatnonzero(cluster != np.arange(len(cluster))).tolist())


def shingles(text: str) -> list[bytes]:
    """The same shingles for the peers that leave them to their caller."""
    words = split_words(text)
    return [" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))] if words else []


def datasketch_drops(texts: Sequence[str]) -> set[int]:
    """Texts with a text before them in one of their buckets."""
    from datasketch import MinHash, MinHashLSH

    index, drops = MinHashLSH(num_perm=FUNCTIONS, params=(RULE.bands, RULE.rows_per_band)), set()
    for number, text in enumerate(texts):
        if grams := shingles(text):
            minhash = MinHash(num_perm=FUNCTIONS)
            minhash.update_batch(grams)
            if index.query(minhash):
                drops.add(number)
            index.insert(number, minhash)
    return drops


def rensa_drops(texts: Sequence[str]) -> set[int]:
    """Its deduplicator, whose sketches verify what its buckets propose."""
    from rensa import RMinHashDeduplicator

    dedup = RMinHashDeduplicator(threshold=RULE.min_jaccard, num_perm=FUNCTIONS, use_lsh=True, num_bands=RULE.bands)
    keep = dedup.add_pairs((str(number), grams) for number, text in enumerate(texts) if (grams := shingles(text)))
    return {
        number for number, kept in zip((n for n, t in enumerate(texts) if shingles(t)), keep, strict=True) if not kept
    }


def datatrove_drops(texts: Sequence[str]) -> set[int]:
    """Its four steps, with our words instead of spaCy's."""
    import xxhash
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.logging import logger
    from datatrove.utils.word_tokenizers import WordTokenizer

    logger.remove()

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return split_words(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    config: Any = minhash.MinhashConfig(n_grams=5, num_buckets=RULE.bands, hashes_per_bucket=RULE.rows_per_band)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        signatures, buckets, remove = (f"{folder}/{name}" for name in ("signatures", "buckets", "remove"))
        step = minhash.MinhashDedupSignature(signatures, config=config, language=Words())
        # datatrove 0.10 hands str to xxhash, which xxhash 4 refuses.
        step._hash_func = lambda shingle: xxhash.xxh64_intdigest(shingle.encode())
        step.run(iter(documents))
        for bucket in range(RULE.bands):
            minhash.MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, RULE.bands)
        minhash.MinhashDedupCluster(buckets, remove, config=config).run(None)
        kept = {int(document.id) for document in minhash.MinhashDedupFilter(remove).run(iter(documents))}
    return set(range(len(texts))) - kept
