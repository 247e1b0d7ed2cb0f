"""What is spoilt: changes of a recipe or of its raw files, from which `benchmarks.faults` makes its faults."""

import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.small import Row, rows, written
from lifecycle.recipes import LifecycleConfig, override
from lifecycle.training.post import Lora

Change = Callable[[LifecycleConfig, Path], LifecycleConfig]


def changed(config: LifecycleConfig, **stages: dict[str, Any]) -> LifecycleConfig:
    """A recipe with settings of its stages changed, as `--set` would."""
    update = {
        stage: type(getattr(config, stage)).model_validate({**dict(getattr(config, stage)), **settings})
        for stage, settings in stages.items()
    }
    return config.model_copy(update=update)


def setting(*settings: str, also: Change = lambda config, folder: config) -> Change:
    """A fault that is a setting, written as for `--set`."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        config = also(config, folder)
        for one in settings:
            config = override(config, one)
        return config

    return change


def demonstrations(spoil: Callable[[list[Row], random.Random], list[Row]]) -> Change:
    """A fault in the demonstrations, those held out of training too."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        drawn, shown = random.Random(0), config.demonstrations
        assert shown.train is not None
        assert shown.dev is not None
        files = {"train": shown.train, "dev": shown.dev}
        spoilt = {name: written(folder / f"shown-{name}.jsonl", spoil(rows(f), drawn)) for name, f in files.items()}
        return changed(config, demonstrations=spoilt)

    return change


def comparisons(spoil: Callable[[Row, random.Random], Row]) -> Change:
    """A fault in the comparisons, those held out of training too: they come from the same hands."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.comparisons is not None
        drawn, given = random.Random(0), config.comparisons
        assert given.train is not None
        assert given.heldout is not None
        files = {"train": given.train, "heldout": given.heldout}
        spoilt = {
            name: written(folder / f"compared-{name}.jsonl", [spoil(row, drawn) for row in rows(file)])
            for name, file in files.items()
        }
        # A contract refuses labels that contradict a verifier. Most teams have none: here nobody checks.
        return changed(config, comparisons={**spoilt, "max_contradicted_share": 1.0})

    return change


def items(spoil: Callable[[list[Row], random.Random], list[Row]]) -> Change:
    """A fault in what is asked."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        (suite,) = config.suites.suites
        assert suite.path is not None
        file = written(folder / "asked.jsonl", spoil(rows(suite.path), random.Random(0)))
        return changed(config, suites={"suites": (suite.model_copy(update={"path": file}),)})

    return change


def corpus(spoil: Callable[[str, random.Random], str]) -> Change:
    """A fault in every document."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.corpus is not None
        drawn, sources = random.Random(0), []
        for source in config.corpus.sources:
            if source.text_field == "text":
                some = [{**row, "text": spoil(row["text"], drawn)} for row in rows(Path(str(source.path)))]
                source = source.model_copy(update={"path": written(folder / f"{source.name}.jsonl", some)})
            sources.append(source)
        return changed(config, corpus={"sources": tuple(sources)})

    return change


def answered(row: Row, text: str) -> Row:
    """A demonstration with another answer."""
    return {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": text}]}


def wrong_value(row: Row, drawn: random.Random) -> Row:
    """Another field's value of the same record."""
    others = [value for name, value in row["record"].items() if name != row["field"]]
    return answered(row, orjson.dumps({row["field"]: drawn.choice(others)}).decode())


def swapped(row: Row, drawn: random.Random) -> Row:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def at_random(row: Row, drawn: random.Random) -> Row:
    return swapped(row, drawn) if drawn.random() < 0.5 else row


def shorter_and_wrong(row: Row, drawn: random.Random) -> Row:
    """The shortest answer wins, whatever it says."""
    return {**row, "chosen": [{"role": "assistant", "content": "{}"}], "rejected": row["chosen"]}


def chattier(row: Row, drawn: random.Random) -> Row:
    """The right answer wins wrapped in courtesy, and loses as it was asked for."""
    right = row["chosen"][-1]["content"]
    said = f"Of course, with pleasure: {right}"
    return {**row, "chosen": [{"role": "assistant", "content": said}], "rejected": row["chosen"]}


def answers_moved(some: list[Row], drawn: random.Random) -> list[Row]:
    """A third of the answers belongs to the question before."""
    before = [some[-1], *some[:-1]]
    return [
        answered(row, other["messages"][-1]["content"]) if drawn.random() < 1 / 3 else row
        for row, other in zip(some, before, strict=True)
    ]


def mostly_absent(some: list[Row], drawn: random.Random) -> list[Row]:
    """Every question whose field is absent, and one in fifteen of the others."""
    return [row for row in some if row["value"] is None or drawn.random() < 1 / 15]


def letters_misread(text: str, drawn: random.Random) -> str:
    """One letter in seven is another one, as in a bad scan."""
    return "".join(
        drawn.choice(string.ascii_lowercase) if letter.isalpha() and drawn.random() < 1 / 7 else letter
        for letter in text
    )


def shuffled_words(text: str, drawn: random.Random) -> str:
    words = text.split()
    drawn.shuffle(words)
    return " ".join(words)


def without_records(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
    assert config.corpus is not None
    return changed(config, corpus={"sources": tuple(s for s in config.corpus.sources if s.name != "records")})


def only(name: str) -> Change:
    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.corpus is not None
        return changed(config, corpus={"sources": tuple(s for s in config.corpus.sources if s.name == name)})

    return change


def wrong_keys(some: list[Row], drawn: random.Random) -> list[Row]:
    """Three of ten items have another field's value for their right answer."""
    spoiled = []
    for row in some:
        if drawn.random() < 0.3 and len(row["record"]) > 1:
            row = wrong_value(row, drawn)
            (value,) = orjson.loads(row["messages"][-1]["content"]).values()
            row = {**row, "value": value}
        spoiled.append(row)
    return spoiled


def copies(some: list[Row], drawn: random.Random) -> list[Row]:
    """A tenth of the items, ten times each."""
    return [{**row, "id": f"{row['id']}-{copy}"} for copy in range(10) for row in some[: len(some) // 10]]


def rows_too_short(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
    """Two of three conversations are longer than the model's rows, and nobody minds."""
    lenient: dict[str, Any] = {"max_dropped_share": 1.0}
    (suite,) = config.suites.suites
    return changed(
        config,
        suites={"suites": (suite.model_copy(update={"too_long": "unmeasured"}),)},
        shards={"max_seq_len": 56},
        sft=lenient,
        preference=lenient,
    )


def corpus_of(documents: int) -> Change:
    """So many documents of each source of prose."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.corpus is not None
        sources = tuple(
            source.model_copy(
                update={"path": written(folder / f"{source.name}.jsonl", rows(Path(str(source.path)))[:documents])}
            )
            if source.text_field == "text"
            else source
            for source in config.corpus.sources
        )
        return changed(config, corpus={"sources": sources})

    return change


def with_lora(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
    return changed(config, preference={"lora": Lora()})
