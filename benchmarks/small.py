"""The tiny recipe at a fifth of its cost: what `benchmarks.diagnosis` plants faults in.

Three of the four fields, records without versions and sizes, less text, a smaller network, half the batch. One core
makes it in a minute, and it learns the contract as `tiny` does.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from lifecycle.recipes import LifecycleConfig, override
from lifecycle.recipes.tiny import PACK, tiny
from lifecycle.sealing import write_atomically

Row = dict[str, Any]
FIELDS = {"architecture", "multi_arch", "role"}
READ_PAST = {"version", "installed_size", "source"}
DOCUMENTS = 400  # of each source of prose
ITEMS = 240

SETTINGS = (
    "name=small",
    "tokenizer.vocab_size=768",
    "pretrain.model.hidden_size=96",
    "pretrain.model.intermediate_size=256",
    "pretrain.model.layers=3",
    "pretrain.batch_rows=8",
    "pretrain.horizon.steps=300",
    "pretrain.ranks=1",
    "pretrain.threads=1",
    "sft.epochs=0.4",
    "sft.batch_rows=8",
    "sft.learning_rate=0.002",
    "sft.ranks=null",
    "sft.threads=1",
    "preference.batch_pairs=8",
    "preference.learning_rate=0.0003",
    "preference.threads=1",
    "evaluate.threads=1",
    # 240 items: where tiny asks for .8, this healthy run would be promoted by luck.
    "gate.rules.0.at_least=0.7",
    "evaluate.validation_documents_per_source=12",
)


def rows(file: Path) -> list[Row]:
    """The rows of a file, gzipped or not."""
    content = file.read_bytes()
    return [orjson.loads(line) for line in (gzip.decompress(content) if file.suffix == ".gz" else content).splitlines()]


def written(file: Path, some: list[Row]) -> Path:
    """Rows in a file."""
    write_atomically(file, b"".join(orjson.dumps(row) + b"\n" for row in some))
    return file


def small(seed: int, folder: Path, *settings: str) -> LifecycleConfig:
    """The reduced recipe, its raw files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    def part(file: str, narrowed: Callable[[list[Row]], list[Row]]) -> Path:
        mine = folder / file.replace("/", "-").removesuffix(".gz")
        return mine if mine.exists() else written(mine, narrowed(rows(PACK / file)))

    def asked(most: int) -> Callable[[list[Row]], list[Row]]:
        return lambda some: [shorter(row) for row in some if row["field"] in FIELDS][:most]

    config = tiny(seed)
    train = part("contract/train.jsonl.gz", asked(10_000))
    files = {
        "suites.suites.0.path": part("contract/test.jsonl.gz", asked(ITEMS)),
        "demonstrations.train": train,
        "demonstrations.dev": part("contract/dev.jsonl.gz", asked(100)),
        "comparisons.train": part("preferences/train.jsonl.gz", asked(400)),
        "comparisons.heldout": part("preferences/heldout.jsonl.gz", asked(60)),
    }
    assert config.corpus is not None
    for number, source in enumerate(config.corpus.sources):
        assert isinstance(source.path, Path)
        text = source.text_field == "text"
        file = part(str(source.path.relative_to(PACK)), lambda some: some[:DOCUMENTS]) if text else train
        files[f"corpus.sources.{number}.path"] = file
    for setting in (*SETTINGS, *(f"{key}={path}" for key, path in files.items()), *settings):
        config = (
            override(config, setting)
            if not setting.startswith("name=")
            else config.model_copy(update={"name": "small"})
        )
    return config


def shorter(row: Row) -> Row:
    """A question about a record without what is there to be read past."""
    record = {name: value for name, value in row["record"].items() if name not in READ_PAST}
    long, short = (orjson.dumps(each).decode() for each in (row["record"], record))

    def said(messages: list[Row]) -> list[Row]:
        return [{**message, "content": message["content"].replace(long, short)} for message in messages]

    return {**row, "record": record} | {name: said(row[name]) for name in ("messages", "prompt") if name in row}
