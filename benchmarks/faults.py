"""Faults of each of the six kinds, and healthy runs: what `benchmarks.diagnosis` plants in the tiny lifecycle.

A fault is a change of the recipe, of its raw files, or of a worker (`benchmarks.planted`), or a limit of the machine.
Every second fault of a problem is held out: nothing of the diagnosis was or may be tuned on it.
"""

import gzip
import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from lifecycle.diagnosis.readings import Problem
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import PACK

Change = Callable[[LifecycleConfig, Path], LifecycleConfig]
Half = Literal["tuning", "held out"]
Row = dict[str, Any]

MEGABYTE = 1 << 20


@dataclass(frozen=True, eq=False)
class Fault:
    """One thing that is wrong, which problem it is, and the stages whose change would mend it."""

    name: str
    problem: Problem | Literal["healthy"]
    stages: tuple[str, ...]
    change: Change = lambda config, folder: config
    plant: str = ""
    """`stage:fault` of `benchmarks.planted`."""
    limits: dict[int, int] = field(default_factory=dict)
    """Of `resource.setrlimit`, for the workers too."""


def rows(file: Path) -> list[Row]:
    """The rows of a shipped file."""
    return [orjson.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def written(folder: Path, name: str, some: list[Row] | Iterator[Row]) -> Path:
    """Rows in a file of their own."""
    file = folder / f"{name}.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in some))
    return file


def changed(config: LifecycleConfig, **stages: dict[str, Any]) -> LifecycleConfig:
    """A recipe with settings of its stages changed, as `--set` would."""
    update = {
        stage: type(getattr(config, stage)).model_validate({**dict(getattr(config, stage)), **settings})
        for stage, settings in stages.items()
    }
    return config.model_copy(update=update)


def setting(**stages: dict[str, Any]) -> Change:
    """A fault that is a setting."""
    return lambda config, folder: changed(config, **stages)


def demonstrations(spoil: Callable[[list[Row], random.Random], list[Row]]) -> Change:
    """A fault in the demonstrations, those held out of training too."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        drawn = random.Random(0)
        files = {name: spoil(rows(PACK / f"contract/{name}.jsonl.gz"), drawn) for name in ("train", "dev")}
        return changed(config, demonstrations={name: written(folder, name, some) for name, some in files.items()})

    return change


def comparisons(spoil: Callable[[Row, random.Random], Row]) -> Change:
    """A fault in the comparisons, those held out of training too: they come from the same hands."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        drawn = random.Random(0)
        files = {
            name: written(folder, name, (spoil(row, drawn) for row in rows(PACK / f"preferences/{name}.jsonl.gz")))
            for name in ("train", "heldout")
        }
        return changed(config, comparisons=files)

    return change


def items(spoil: Callable[[list[Row], random.Random], list[Row]]) -> Change:
    """A fault in what is asked."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.suites is not None
        (suite,) = config.suites.suites
        file = written(folder, "test", spoil(rows(PACK / "contract/test.jsonl.gz"), random.Random(0)))
        return changed(config, suites={"suites": (suite.model_copy(update={"path": file}),)})

    return change


def corpus(spoil: Callable[[str, random.Random], str]) -> Change:
    """A fault in every document."""

    def change(config: LifecycleConfig, folder: Path) -> LifecycleConfig:
        assert config.corpus is not None
        drawn, sources = random.Random(0), []
        for source in config.corpus.sources:
            if source.text_field == "text":
                some = ({**row, "text": spoil(row["text"], drawn)} for row in rows(Path(str(source.path))))
                source = source.model_copy(update={"path": written(folder, source.name, some)})
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
    """A hundred items, fifteen times each."""
    return [{**row, "id": f"{row['id']}-{copy}"} for copy in range(15) for row in some[:100]]


BEHAVIOUR, PREFERENCE = ("sft", "demonstrations"), ("preference", "comparisons")

FAULTS: tuple[Fault, ...] = (
    # knowledge
    Fault(
        "short pretraining",
        "knowledge",
        ("pretrain",),
        setting(pretrain={"horizon": {"steps": 60}, "warmup_steps": 10}),
    ),
    Fault("low learning rate", "knowledge", ("pretrain",), setting(pretrain={"learning_rate": 3e-5})),
    Fault("words shuffled", "knowledge", ("corpus", "pretrain"), corpus(shuffled_words)),
    Fault("no text like the questions", "knowledge", ("corpus",), without_records),
    Fault(
        "tiny network",
        "knowledge",
        ("pretrain",),
        setting(
            pretrain={"model": {"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32}}
        ),
    ),
    Fault("one source", "knowledge", ("corpus",), only("moby-dick")),
    # behaviour
    Fault("short SFT", "behaviour", BEHAVIOUR, setting(sft={"epochs": 0.12})),
    Fault("few demonstrations", "behaviour", BEHAVIOUR, demonstrations(lambda some, _: some[:640])),
    Fault("low SFT rate", "behaviour", BEHAVIOUR, setting(sft={"learning_rate": 2e-5})),
    Fault(
        "wrong values",
        "behaviour",
        BEHAVIOUR,
        demonstrations(
            lambda some, drawn: [
                wrong_value(r, drawn) if drawn.random() < 0.5 and len(r["record"]) > 1 else r for r in some
            ]
        ),
    ),
    Fault(
        "no absent fields",
        "behaviour",
        BEHAVIOUR,
        demonstrations(lambda some, _: [r for r in some if r["value"] is not None]),
    ),
    Fault(
        "another manner",
        "behaviour",
        BEHAVIOUR,
        demonstrations(lambda some, _: [answered(r, f"{r['field']}: {r['value']}") for r in some]),
    ),
    # protocol
    Fault("mask off", "protocol", ("sft",), plant="sft:mask_off"),
    Fault("mask late", "protocol", ("sft",), plant="sft:mask_late"),
    Fault("stop unsupervised", "protocol", ("sft",), plant="sft:stop_unsupervised"),
    Fault("BOS doubled", "protocol", ("evaluate",), plant="evaluate:bos_doubled"),
    Fault("generation prompt dropped", "protocol", ("evaluate",), plant="evaluate:generation_prompt_dropped"),
    Fault("template edited", "protocol", ("evaluate",), plant="evaluate:template_edited"),
    # preference
    Fault(
        "over-strong", "preference", PREFERENCE, setting(preference={"learning_rate": 2e-3, "chosen_nll_weight": 0.0})
    ),
    Fault("swapped labels", "preference", PREFERENCE, comparisons(swapped)),
    Fault("random labels", "preference", PREFERENCE, comparisons(at_random)),
    Fault("shorter is better", "preference", PREFERENCE, comparisons(shorter_and_wrong)),
    Fault(
        "no rein",
        "preference",
        PREFERENCE,
        setting(preference={"beta": 0.002, "learning_rate": 6e-4, "chosen_nll_weight": 0.0}),
    ),
    Fault(
        "many passes",
        "preference",
        PREFERENCE,
        setting(preference={"epochs": 12, "learning_rate": 6e-4, "chosen_nll_weight": 0.0}),
    ),
    # memory and runtime
    Fault("rate that diverges", "runtime", ("pretrain",), setting(pretrain={"learning_rate": 30.0})),
    Fault("out of memory", "runtime", ("sft",), limits={resource.RLIMIT_DATA: 900 * MEGABYTE}),
    Fault(
        "rows that do not fit",
        "runtime",
        ("shards", "sft"),
        setting(shards={"max_seq_len": 64}, sft={"max_dropped_share": 1.0}, preference={"max_dropped_share": 1.0}),
    ),
    Fault("full disk", "runtime", ("pretrain",), limits={resource.RLIMIT_FSIZE: 2 * MEGABYTE}),
    Fault("SFT that diverges", "runtime", ("sft",), setting(sft={"learning_rate": 10.0})),
    Fault("stopped too early", "runtime", ("preference",), limits={resource.RLIMIT_CPU: 25}),
    # eval blindness
    Fault("few items", "eval_blindness", ("evaluate", "suites"), setting(evaluate={"items_per_suite": 20})),
    Fault("answers cut", "eval_blindness", ("evaluate",), setting(evaluate={"max_new_tokens": 4})),
    Fault("wrong answer key", "eval_blindness", ("suites",), items(wrong_keys)),
    Fault("copies", "eval_blindness", ("suites", "evaluate"), items(copies)),
    Fault(
        "answers of one kind",
        "eval_blindness",
        ("suites",),
        items(lambda some, _: [r for r in some if r["value"] == "optional"]),
    ),
    Fault("fifty items", "eval_blindness", ("evaluate", "suites"), items(lambda some, _: some[:50])),
    # healthy
    Fault("as shipped", "healthy", ()),
    Fault(
        "half the demonstrations, twice",
        "healthy",
        (),
        lambda config, folder: changed(
            demonstrations(lambda some, _: some[: len(some) // 2] if len(some) > 1000 else some)(config, folder),
            sft={"epochs": 2.56},
        ),
    ),
    Fault("longer SFT", "healthy", (), setting(sft={"epochs": 1.6})),
    Fault("weaker preferences", "healthy", (), setting(preference={"learning_rate": 1e-4})),
    Fault("larger batches", "healthy", (), setting(sft={"batch_rows": 32, "epochs": 2.0})),
    Fault("600 items", "healthy", (), setting(evaluate={"items_per_suite": 600})),
)


def half_of(fault: Fault) -> Half:
    """Which half of the bench a fault belongs to: they alternate within a problem."""
    mine = [other for other in FAULTS if other.problem == fault.problem]
    return "tuning" if mine.index(fault) % 2 == 0 else "held out"
