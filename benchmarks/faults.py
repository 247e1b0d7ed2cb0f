"""Faults of each of the six kinds, and healthy runs: what `benchmarks.diagnosis` plants in the reduced lifecycle.

A fault is a change of the recipe, of its raw files, or of a worker (`benchmarks.planted`), or a limit of the machine.
Half of them are held out: nothing of the diagnosis was or may be tuned on them. One whose wrong answer somebody looked
at counts as tuning from then on. So what is left of that half was found right before, and flatters: the faults of half
`new` took the places of the others, were written before any of them was run, and say more of what nobody thought of.
"""

import resource
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.spoilt import (
    Change,
    answered,
    answers_moved,
    at_random,
    chattier,
    comparisons,
    copies,
    corpus,
    corpus_of,
    demonstrations,
    items,
    letters_misread,
    mostly_absent,
    only,
    rows_too_short,
    setting,
    shorter_and_wrong,
    shuffled_words,
    swapped,
    with_lora,
    without_records,
    wrong_keys,
    wrong_value,
)
from lifecycle.diagnosis.readings import Problem

Half = Literal["tuning", "held out", "new"]

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
    """Of `resource.setrlimit`, for the worker of the first of `stages` (`benchmarks.warm`)."""
    half: Half = "tuning"

    @property
    def behind_contracts(self) -> str | None:
        """The stage whose worker is another one: what the healthy run has of it and below is not taken over."""
        return self.plant.split(":")[0] or (self.stages[0] if self.limits else None)


BEHAVIOUR, PREFERENCE = ("sft", "demonstrations"), ("preference", "comparisons")

SHIPPED = Fault("as shipped", "healthy", ())
NO_LEASH = "preference.chosen_nll_weight=0"

FAULTS: tuple[Fault, ...] = (
    # knowledge
    Fault(
        "short pretraining",
        "knowledge",
        ("pretrain",),
        setting("pretrain.warmup_steps=2", "pretrain.horizon.steps=10"),
    ),
    Fault("low learning rate", "knowledge", ("pretrain",), setting("pretrain.learning_rate=3e-5")),
    Fault("words shuffled", "knowledge", ("corpus", "pretrain"), corpus(shuffled_words)),
    Fault("no text like the questions", "knowledge", ("corpus",), without_records),
    Fault(
        "tiny network",
        "knowledge",
        ("pretrain",),
        setting(
            'pretrain.model={"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32}',
        ),
    ),
    Fault("one source", "knowledge", ("corpus",), only("moby-dick")),
    Fault("one row a step", "knowledge", ("pretrain",), setting("pretrain.batch_rows=1")),
    Fault("filters too strict", "knowledge", ("corpus",), setting("corpus.quality.gopher.min_words=400")),
    Fault("letters misread", "knowledge", ("corpus", "pretrain"), corpus(letters_misread)),
    Fault("little text", "knowledge", ("corpus",), corpus_of(15), half="new"),
    Fault("documents cut", "knowledge", ("corpus",), corpus(lambda text, _: text[:100]), half="new"),
    Fault("40 steps", "knowledge", ("pretrain",), setting("pretrain.horizon.steps=40"), half="new"),
    # behaviour
    Fault("short SFT", "behaviour", BEHAVIOUR, setting("sft.epochs=0.04")),
    Fault(
        "few demonstrations",
        "behaviour",
        BEHAVIOUR,
        setting("sft.epochs=25", also=demonstrations(lambda some, _: some[:100])),
        half="held out",
    ),
    Fault("low SFT rate", "behaviour", BEHAVIOUR, setting("sft.learning_rate=2e-5")),
    Fault(
        "wrong values",
        "behaviour",
        BEHAVIOUR,
        demonstrations(
            lambda some, drawn: [
                wrong_value(r, drawn) if drawn.random() < 0.5 and len(r["record"]) > 1 else r for r in some
            ]
        ),
        half="held out",
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
        half="held out",
    ),
    Fault("answers to other questions", "behaviour", BEHAVIOUR, demonstrations(answers_moved), half="held out"),
    Fault("mostly absent fields", "behaviour", BEHAVIOUR, demonstrations(mostly_absent), half="new"),
    # protocol
    Fault("mask off", "protocol", ("sft",), plant="sft:mask_off"),
    Fault("mask late", "protocol", ("sft",), plant="sft:mask_late"),
    Fault("stop unsupervised", "protocol", ("sft",), plant="sft:stop_unsupervised"),
    Fault("BOS doubled", "protocol", ("evaluate",), plant="evaluate:bos_doubled", half="held out"),
    Fault("generation prompt dropped", "protocol", ("evaluate",), plant="evaluate:generation_prompt_dropped"),
    Fault("template edited", "protocol", ("evaluate",), plant="evaluate:template_edited", half="held out"),
    Fault("mask inverted", "protocol", ("sft",), plant="sft:mask_inverted"),
    Fault("labels shifted", "protocol", ("sft",), plant="sft:labels_shifted", half="new"),
    # preference
    Fault("over-strong", "preference", PREFERENCE, setting("preference.learning_rate=2e-3", NO_LEASH)),
    Fault("swapped labels", "preference", PREFERENCE, comparisons(swapped), half="held out"),
    Fault("random labels", "preference", PREFERENCE, comparisons(at_random)),
    Fault("shorter is better", "preference", PREFERENCE, comparisons(shorter_and_wrong), half="held out"),
    Fault(
        "no rein",
        "preference",
        PREFERENCE,
        setting("preference.beta=0.002", "preference.learning_rate=6e-4", NO_LEASH),
    ),
    Fault(
        "many passes",
        "preference",
        PREFERENCE,
        setting("preference.epochs=6", "preference.learning_rate=8e-4", NO_LEASH),
        half="held out",
    ),
    Fault("chattier is better", "preference", PREFERENCE, comparisons(chattier)),
    Fault("a hundred times the rate", "preference", PREFERENCE, setting("preference.learning_rate=3e-2"), half="new"),
    # memory and runtime
    Fault("rate that diverges", "runtime", ("pretrain",), setting("pretrain.learning_rate=30")),
    Fault("out of memory", "runtime", ("sft",), limits={resource.RLIMIT_RSS: 100 * MEGABYTE}, half="held out"),
    Fault("stopped too early", "runtime", ("preference",), limits={resource.RLIMIT_CPU: 2}),
    Fault("full disk", "runtime", ("pretrain",), limits={resource.RLIMIT_FSIZE: MEGABYTE}, half="held out"),
    Fault("SFT that diverges", "runtime", ("sft",), setting("sft.learning_rate=10")),
    Fault("rows that do not fit", "runtime", ("shards", "sft"), rows_too_short),
    Fault(
        "evaluation out of memory",
        "runtime",
        ("evaluate",),
        limits={resource.RLIMIT_RSS: 30 * MEGABYTE},
        half="held out",
    ),
    Fault("SFT at a rate of .5", "runtime", ("sft",), setting("sft.learning_rate=0.5"), half="new"),
    # eval blindness
    Fault("few items", "eval_blindness", ("evaluate", "suites"), setting("evaluate.items_per_suite=20")),
    Fault("wrong answer key", "eval_blindness", ("suites",), items(wrong_keys), half="held out"),
    Fault("answers cut", "eval_blindness", ("evaluate",), setting("evaluate.max_new_tokens=4")),
    Fault("copies", "eval_blindness", ("suites", "evaluate"), items(copies), half="held out"),
    Fault(
        "answers of one kind",
        "eval_blindness",
        ("suites",),
        items(lambda some, _: [r for r in some if r["value"] == "all"]),
    ),
    Fault("small suite", "eval_blindness", ("evaluate", "suites"), items(lambda some, _: some[:24]), half="held out"),
    Fault("temperature of 3", "eval_blindness", ("evaluate",), setting("evaluate.sampled_temperature=3")),
    Fault("answers of eight tokens", "eval_blindness", ("evaluate",), setting("evaluate.max_new_tokens=8"), half="new"),
    # healthy
    SHIPPED,
    Fault(
        "half the demonstrations, twice",
        "healthy",
        (),
        setting("sft.epochs=0.8", also=demonstrations(lambda some, _: some[: max(100, len(some) // 2)])),
        half="held out",
    ),
    Fault("longer SFT", "healthy", (), setting("sft.epochs=0.5")),
    Fault("weaker preferences", "healthy", (), setting("preference.learning_rate=2e-4"), half="held out"),
    Fault("larger batches", "healthy", (), setting("sft.batch_rows=16", "sft.epochs=0.7")),
    Fault(
        "150 items",
        "healthy",
        (),
        setting("evaluate.items_per_suite=150", *(f"gate.rules.{rule}.items=150" for rule in range(7))),
        half="held out",
    ),
    Fault(
        "preferences by LoRA",
        "healthy",
        (),
        setting("preference.lora.rank=16", "preference.learning_rate=2e-3", also=with_lora),
    ),
    Fault("other seeds", "healthy", (), setting("sft.seed=7", "preference.seed=7", "evaluate.seed=7"), half="held out"),
    Fault("higher SFT rate", "healthy", (), setting("sft.learning_rate=3e-3")),
    Fault("rows of whole documents", "healthy", (), setting("shards.packing=best_fit"), half="held out"),
    Fault("longer pretraining", "healthy", (), setting("pretrain.horizon.steps=400")),
    Fault("half the text", "healthy", (), corpus_of(200), half="held out"),
    Fault("a linear schedule", "healthy", (), setting("sft.schedule=linear"), half="new"),
    Fault("more weight decay", "healthy", (), setting("sft.weight_decay=0.1", "pretrain.weight_decay=0.2"), half="new"),
)
