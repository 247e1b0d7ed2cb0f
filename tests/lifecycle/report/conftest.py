"""Sealed corpora with made-up reports: what a card shows is checked against numbers that stand here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.artifacts import Corpus, SourceCount
from lifecycle.data.corpus_report import FILE, CorpusReport
from lifecycle.data.jsonl import write_rows
from lifecycle.report.data_card import DataCard, card_of
from lifecycle.sealing import StageConfig

MakeCard = Callable[..., DataCard]


class CorpusMadeUp(StageConfig):
    """The config of a corpus that a test made by hand: only what a card reads."""

    stage = "corpus"
    sources: tuple[dict[str, str], ...]
    seed: int = 0


def tally(documents: int) -> dict[str, int]:
    """Documents of 1,000 bytes."""
    return {"documents": documents, "bytes": 1_000 * documents}


def step(name: str, sea: tuple[int, dict[str, int]], web: tuple[int, dict[str, int]]) -> dict[str, Any]:
    """A step of two sources: how many enter, and what is dropped."""

    def one(entered: int, dropped: dict[str, int]) -> dict[str, Any]:
        left = tally(entered - sum(dropped.values()))
        return {"entered": tally(entered), "left": left, "dropped": {r: tally(n) for r, n in dropped.items()}}

    return {"name": name, "sources": {"sea": one(*sea), "web": one(*web)}}


def report() -> dict[str, Any]:
    """1,000 rows of sea of which 900 stay, 3,000 of web of which 1,200 do; every step is on."""
    edges = [16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0]
    sea = {"edges": edges, "kept": [0, 10, 200, 500, 180, 10], "dropped": [40, 30, 20, 10, 0, 0]}
    web = {"edges": edges, "kept": [0, 50, 400, 500, 200, 50], "dropped": [600, 500, 400, 200, 80, 20]}
    scores = [0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0]
    shares = {
        "sea": {"available_bytes": 880_000, "train_bytes": 1_760_000, "train_rows": 1_760, "epochs": 2.0,
                "asked_share": 0.6, "share": 0.6},
        "web": {"available_bytes": 1_170_000, "train_bytes": 1_170_000, "train_rows": 1_170, "epochs": 1.0,
                "asked_share": 0.4, "share": 0.4},
    }  # fmt: skip
    return {
        "steps": [
            step("read", (1000, {"row_nul": 4}), (3000, {"row_bad_json": 20, "row_nul": 6})),
            step("normalise", (996, {}), (2974, {})),
            step("language", (996, {}), (2974, {"language_other": 1024, "language_unsure": 50})),
            step("quality", (996, {"gopher_word_count": 26}), (1900, {"gopher_word_count": 200, "c4_lorem_ipsum": 1})),
            step("scrub", (970, {}), (1699, {})),
            step("exact_duplicates", (970, {"duplicate_exact": 20}), (1699, {"duplicate_exact": 299})),
            step("near_duplicates", (950, {"duplicate_near": 48}), (1400, {"duplicate_near": 150})),
            step("decontamination", (902, {"contaminated": 2}), (1250, {"contaminated": 0})),
            step("mixture", (900, {}), (1250, {"over_mixture": 50})),
        ],
        "lengths": {"sea": sea, "web": web},
        "scores": {"language": {
            "web": {"edges": scores, "kept": [0, 0, 0, 20, 180, 1000], "dropped": [300, 400, 250, 124, 0, 0]},
        }},
        "languages": {"web": {"en": tally(1950), "de": tally(900), "und": tally(124)}},
        "normalised": {"sea": {"unicode": 12}, "web": {"unicode": 220, "spaces": 17}},
        "removed_lines": {"web": {"c4_line_policy": 31}},
        "scrubbed": {"sea": {}, "web": {"EMAIL": 1_234, "PHONE": 56}},
        "near_duplicates": {"candidate_pairs": 320, "verified_pairs": 210, "clusters": 90, "documents": 288,
                            "cluster_sizes": {"2": 70, "3": 12, "7": 5, "21": 2, "35": 1}},
        "decontamination": {"items": 1500, "items_without_a_distinctive_ngram": 3, "distinctive_ngrams": 2706,
                            "items_found": {"contract": 2, "quiz": 0}},
        "mixture": {"asked_bytes": 3_000_000, "train_bytes": 2_930_000, "bytes_per_token": 4.2, "sources": shares,
                    "shortfalls": ["asked for 3,000,000 bytes, found 2,930,000: web has no more text"]},
        "validation": {"sea": {"asked_documents": 20, "documents": 20, "bytes": 20_000},
                       "web": {"asked_documents": 30, "documents": 10, "bytes": 10_000}},
    }  # fmt: skip


SAMPLES = [
    {"source": "sea", "id": "s1", "reason": "gopher_word_count", "detail": "4 words, not 15 to 100000", "text": "Aye."},
    {"source": "web", "id": "w7", "reason": "gopher_word_count", "detail": "2 words, not 15 to 100000", "text": "Hi."},
    {"source": "web", "id": "w8", "reason": "duplicate_near", "detail": "copy of 's2' in sea",
     "text": "Call me Ishmael. Write to ishmael@pequod.example.org about it."},
    {"source": "sea", "id": "s9", "reason": "contaminated", "detail": "shares words with contract/item-3",
     "text": "the answer is 42"},
]  # fmt: skip


@pytest.fixture
def told() -> dict[str, Any]:
    """The report as plain data: a test changes what it is about."""
    return report()


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """A sealed corpus with this report and these samples."""

    def make(
        told: dict[str, Any] | None = None, samples: list[dict[str, str]] | None = None, **licences: str
    ) -> Corpus:
        folder = tmp_path / "artifacts" / "corpus"
        folder.mkdir(parents=True)
        found = CorpusReport.model_validate(report() if told is None else told)
        (folder / FILE).write_text(found.model_dump_json())
        write_rows(folder / "dropped.jsonl", SAMPLES if samples is None else samples)
        kept = {name: one.left for name, one in found.steps[-1].sources.items()}
        counts = {
            name: SourceCount(
                licence=licences.get(name, "CC0-1.0"),
                read=found.steps[0].sources[name].entered.documents,
                kept=tally.documents,
                kept_bytes=tally.bytes,
            )
            for name, tally in kept.items()
        }
        documents = sum(count.kept for count in counts.values())
        config = CorpusMadeUp(sources=tuple({"name": name, "path": f"{name}.jsonl.gz"} for name in counts))
        corpus = Corpus(
            path=folder,
            train_documents=documents - 30,
            validation_documents=30,
            sources=counts,
            suites_digest="s" * 64,
        )
        return corpus.seal(config)

    return make


@pytest.fixture
def make_card(make_corpus: Callable[..., Corpus]) -> MakeCard:
    return lambda *arguments, **licences: card_of(make_corpus(*arguments, **licences).path)
