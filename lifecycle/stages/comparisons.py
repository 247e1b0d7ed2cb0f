"""Pairs of answers in which one should win: checked, distinct, free of contradictions and of held-out items."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Comparisons, Suites
from lifecycle.data.conversations import answer_key, fault_of_comparison, prompt_key
from lifecycle.data.curation import Curator
from lifecycle.data.decontaminate import HeldOut, NgramRule
from lifecycle.data.jsonl import Row, read_rows, write_rows
from lifecycle.sealing import StageConfig


class ComparisonsConfig(StageConfig):
    """Which pairs. Rows: id, prompt (messages), chosen and rejected (one assistant message each), maybe a record."""

    stage: ClassVar[str] = "comparisons"
    train: Path = Field(description="Pairs to train on, .jsonl or .jsonl.gz.")
    heldout: Path = Field(description="Pairs to watch reward accuracy on; their prompts are dropped from train.")
    licence: str = Field("unstated", min_length=1, description="What allows its use.")
    max_bad_row_share: float = Field(0.0, ge=0, le=1, description="More unusable rows than this refuse the file.")
    decontamination: NgramRule = Field(NgramRule(ngram_words=8), description="As for demonstrations.")


def curate_comparisons(config: ComparisonsConfig, suites: Suites, *, out_dir: Path) -> Comparisons:
    """Distinct pairs, none about a held-out item, none contradicted by another, in a train and a held-out file."""
    contracts.holds_items(suites)
    curator = Curator(HeldOut(suites, config.decontamination))
    kept: dict[str, list[Row]] = {}
    dropped: Counter[str] = Counter()
    heldout_prompts: set[str] = set()
    for done, (split, path) in enumerate((("heldout", config.heldout), ("train", config.train))):
        progress.report(done, 2, "files", split)
        rows, faults = read_rows(path, fault_of_comparison, max_bad_row_share=config.max_bad_row_share)
        rows, contradictions = without_contradictions(rows)
        kept[split], reasons = curator.curate(
            rows, prompt=lambda row: row["prompt"], same=_pair, elsewhere=heldout_prompts, path=path
        )
        counts = faults + reasons + Counter(contradiction=contradictions)
        dropped.update({f"{split}_{reason}": count for reason, count in sorted(counts.items())})
        heldout_prompts.update(prompt_key(row["prompt"]) for row in kept[split])
        fields = ("id", "prompt", "chosen", "rejected")
        write_rows(out_dir / f"{split}.jsonl", ({name: row[name] for name in fields} for row in kept[split]))
    return Comparisons(
        path=out_dir,
        train_pairs=len(kept["train"]),
        heldout_pairs=len(kept["heldout"]),
        dropped=dict(dropped),
        length_alone_predicts=length_alone_predicts(kept["train"]),
        suites_digest=suites.digest,
    ).seal(config, suites)


def without_contradictions(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows whose opposite is not there as well, and how many were dropped. Neither side of a conflict is kept."""
    pairs = {_pair(row) for row in rows}
    kept = [row for row in rows if (_pair(row)[0], _pair(row)[2], _pair(row)[1]) not in pairs]
    return kept, len(rows) - len(kept)


def length_alone_predicts(rows: Sequence[Row]) -> float:
    """Share of pairs in which the shorter answer is the chosen one; a pair of equal lengths counts half.

    Near 1 (or 0) preference training can win by learning length and nothing else.
    """
    lengths = [(len(answer_key(row["chosen"])), len(answer_key(row["rejected"]))) for row in rows]
    return round(sum((chosen < rejected) + (chosen == rejected) / 2 for chosen, rejected in lengths) / len(rows), 6)


def _pair(row: Row) -> tuple[str, str, str]:
    return prompt_key(row["prompt"]), answer_key(row["chosen"]), answer_key(row["rejected"])


def check_rows(config: ComparisonsConfig) -> None:
    """Raise InputError where a file has too many rows that are no pair."""
    for path in (config.train, config.heldout):
        read_rows(path, fault_of_comparison, max_bad_row_share=config.max_bad_row_share)
