"""Small artifacts for the tests of the data stages: six held-out items and three sources of generated prose."""

import random
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from lifecycle.artifacts import Corpus, Suites
from lifecycle.data.documents import Source
from lifecycle.data.filters import QualityRules
from lifecycle.stages.corpus import CorpusConfig, build_corpus
from lifecycle.stages.suites import SuiteFile, SuitesConfig, collect_suites

NOUNS = ("whale", "ship", "captain", "harpoon", "island", "storm", "lantern", "letter", "cabin", "deck", "anchor")
VERBS = ("saw", "followed", "feared", "repaired", "sold", "forgot", "carried", "painted", "lost", "measured")
ENDS = ("before dawn", "after supper", "in the old harbour", "with great care", "for the last time", "without a word")

WriteRows = Callable[..., Path]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows (dicts, or bytes for a damaged line) to a file of this name."""

    def write(name: str, rows: list[dict | bytes]) -> Path:
        lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
        (tmp_path / name).write_bytes(b"".join(line + b"\n" for line in lines))
        return tmp_path / name

    return write


def make_prose(seed: int | str, sentences: int = 12) -> str:
    """Generated sentences that pass every quality rule; two seeds share no long run of words."""
    draw = random.Random(seed)

    def sentence() -> str:
        numbers = [draw.randrange(10_000) for _ in range(2)]
        names = [f"{draw.choice(NOUNS)} x{number}" for number in numbers]
        return f"The {names[0]} {draw.choice(VERBS)} the {names[1]} and {draw.choice(VERBS)} it {draw.choice(ENDS)}."

    return " ".join(sentence() for _ in range(sentences)) + " That was all they have to be told."


def make_item(number: int, field: str = "section", value: object = "libs", answer: str | None = None) -> dict:
    """A contract row about a record that no other number shares."""
    record = {"package": f"pkg-{number}", "version": f"{number}.{number}-{number}", "section": "libs", "size": number}
    text = "\n".join(f"{name}: {content}" for name, content in record.items())
    answer = answer if answer is not None else orjson.dumps({field: value}).decode()
    question = {"role": "user", "content": f'Return "{field}" from this record as JSON, null when absent.\n{text}'}
    messages = [question, {"role": "assistant", "content": answer}]
    return {"id": f"item-{number}", "record": record, "messages": messages, "field": field, "value": value}


@pytest.fixture
def prose() -> Callable[..., str]:
    return make_prose


@pytest.fixture
def item() -> Callable[..., dict]:
    return make_item


@pytest.fixture
def suites(tmp_path: Path, write_rows: WriteRows) -> Suites:
    file = write_rows("test.jsonl", [make_item(number) for number in range(900, 906)])
    folder = tmp_path / "suites"
    folder.mkdir()
    return collect_suites(SuitesConfig(suites=(SuiteFile(name="contract", path=file),)), out_dir=folder)


@pytest.fixture
def sources(write_rows: WriteRows) -> tuple[Source, ...]:
    """Three sources of 40 distinct documents each."""
    return tuple(
        Source(
            name=name,
            path=write_rows(
                f"{name}.jsonl", [{"id": f"{name}-{n}", "text": make_prose(f"{name}{n}")} for n in range(40)]
            ),
            licence="CC0-1.0",
        )
        for name in ("sea", "land", "air")
    )


@pytest.fixture
def corpus(tmp_path: Path, suites: Suites, sources: tuple[Source, ...]) -> Corpus:
    folder = tmp_path / "corpus"
    folder.mkdir()
    config = CorpusConfig(sources=sources, validation_share=0.1, quality=QualityRules())
    return build_corpus(config, suites, out_dir=folder)
