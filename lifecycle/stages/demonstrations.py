"""Conversations that show the behaviour we want: checked, distinct, and none of them held out for scoring."""

from collections import Counter
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Demonstrations, Suites
from lifecycle.data.conversations import answer_key, fault_of_demonstration, prompt_key
from lifecycle.data.curation import Curator
from lifecycle.data.decontaminate import HeldOut, NgramRule
from lifecycle.data.jsonl import Row, read_rows, write_rows
from lifecycle.sealing import StageConfig


class DemonstrationsConfig(StageConfig):
    """Which conversations. Rows: id, messages, and maybe a record, whose words then count instead of the prompt's."""

    stage: ClassVar[str] = "demonstrations"
    train: Path = Field(description="Conversations to train on, .jsonl or .jsonl.gz.")
    dev: Path = Field(description="Conversations to watch the loss on; what is in here is dropped from train.")
    source: str = Field("contract", min_length=1, description="The name of this body of conversations in counts.")
    licence: str = Field("unstated", min_length=1, description="What allows its use.")
    max_bad_row_share: float = Field(0.0, ge=0, le=1, description="More unusable rows than this refuse the file.")
    decontamination: NgramRule = Field(
        NgramRule(ngram_words=8), description="8 words: our records have 7 to 14, and a row is worth less than an item."
    )


def curate_demonstrations(config: DemonstrationsConfig, suites: Suites, *, out_dir: Path) -> Demonstrations:
    """Distinct conversations, none with the prompt or the record of a held-out item, in a train and a dev file."""
    contracts.holds_items(suites)
    curator = Curator(HeldOut(suites, config.decontamination))
    kept: dict[str, list[Row]] = {}
    dropped: Counter[str] = Counter()
    dev_prompts: set[str] = set()
    for done, (split, path) in enumerate((("dev", config.dev), ("train", config.train))):
        progress.report(done, 2, "files", split)
        rows, faults = read_rows(path, fault_of_demonstration, max_bad_row_share=config.max_bad_row_share)
        kept[split], reasons = curator.curate(
            rows,
            prompt=lambda row: row["messages"],
            same=lambda row: (prompt_key(row["messages"]), answer_key(row["messages"])),
            elsewhere=dev_prompts,
            path=path,
        )
        dropped.update({f"{split}_{reason}": count for reason, count in sorted((faults + reasons).items())})
        dev_prompts.update(prompt_key(row["messages"]) for row in kept[split])
        fields = ({"id": row["id"], "source": config.source, "messages": row["messages"]} for row in kept[split])
        write_rows(out_dir / f"{split}.jsonl", fields)
    return Demonstrations(
        path=out_dir,
        train_rows=len(kept["train"]),
        dev_rows=len(kept["dev"]),
        dropped=dict(dropped),
        suites_digest=suites.digest,
    ).seal(config, suites)


def check_rows(config: DemonstrationsConfig) -> None:
    """Raise InputError where a file has too many rows that are no conversation."""
    for path in (config.train, config.dev):
        read_rows(path, fault_of_demonstration, max_bad_row_share=config.max_bad_row_share)
