"""Planting a fault: the reduced lifecycle really run with it, in a store of its own that begins as the healthy one."""

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import warm
from benchmarks.faults import SHIPPED, Fault
from benchmarks.planted import PLANT
from benchmarks.small import small
from lifecycle.artifacts import Checkpoint
from lifecycle.diagnosis.readings import Knob
from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import CHAIN
from lifecycle.errors import LifecycleError
from lifecycle.recipes import LifecycleConfig, override
from lifecycle.runs import Run
from lifecycle.sealing import MANIFEST, Artifact
from lifecycle.stages import (
    comparisons,
    corpus,
    demonstrations,
    evaluate,
    gate,
    preference,
    pretrain,
    sft,
    shards,
    suites,
    tokenizer,
)
from lifecycle.store import Store

DONE = "planted"  # a file in a fault's store: its run has ended, and with which change
MEASURED_ITEMS = 300
SCORES = ("contract.greedy_correct", "contract.sampled_exact")
TRAINING = (pretrain, sft, preference, evaluate)


def live(config: LifecycleConfig, store: Store, plant: str = "") -> Run:
    """A run of the whole chain, as a flow records it, without an orchestrator."""
    if plant:
        os.environ[PLANT] = plant
        {"sft": sft, "evaluate": evaluate}[plant.split(":")[0]].WORKER = "benchmarks.planted"  # type: ignore[attr-defined]
    run = Run.start(store, flow="benchmark", recipe=config.name, settings=[])

    def make(stage: Any, settings: Any, *inputs: Artifact | None) -> Any:
        made = store.make(stage, settings, *inputs, on_drift="accept")
        run.add(made)
        print(f"    {settings.stage}: {'reused' if made.reused else f'{made.seconds:.0f} s'}", flush=True)
        return made.artifact

    try:
        held = make(suites.collect_suites, config.suites)
        text = make(corpus.build_corpus, config.corpus, held)
        words = make(tokenizer.train_tokenizer, config.tokenizer, text)
        base = make(pretrain.pretrain, config.pretrain, make(shards.pack_shards, config.shards, text, words), words)
        tuned = make(
            sft.fine_tune, config.sft, base, make(demonstrations.curate_demonstrations, config.demonstrations, held)
        )
        pairs = make(comparisons.curate_comparisons, config.comparisons, held)
        candidate = make(preference.align, config.preference, tuned, pairs)
        report = make(evaluate.evaluate, config.evaluate, candidate, held, text)
        decision = make(gate.decide_gate, config.gate, report)
        # As `diagnose --measure` does.
        few = config.evaluate.model_copy(update={"items_per_suite": min(MEASURED_ITEMS, *held.items.values())})
        store.make(evaluate.evaluate, few, Checkpoint.load(tuned.path), held, on_drift="accept")
        state = {"PROMOTE": "COMPLETED", "BLOCK": "BLOCKED"}.get(decision.verdict, "INCONCLUSIVE")
        run.end(state, decision.verdict)  # type: ignore[arg-type]
    except LifecycleError as error:
        run.end("FAILED", str(error))
    except Exception as error:
        run.end("FAILED", f"{type(error).__name__}: {error}")
    return run


def plant(fault: Fault, seed: int, root: Path, mended: Knob | None = None) -> None:
    """Run a fault in a store of its own, whose stages above the fault are those of the healthy run.

    `mended`: with this change. One that names no setting is made by hand: its stage is as in the healthy run.
    """
    raw, healthy, faulty = root.parent / f"{seed}-raw", *(root.parent / folder_of(f, seed) for f in (SHIPPED, fault))
    worker, limits = fault.plant, dict(fault.limits)
    config = fault.change(small(seed, raw), root)
    if mended is not None:
        if not mended.settings:
            healthy_too = {mended.stage: getattr(small(seed, raw), mended.stage)}
            config = config.model_copy(update=healthy_too)
            if mended.stage == fault.behind_contracts:
                worker, limits = "", {}
        for setting in mended.settings:
            config = override(config, setting)
    below = CHAIN[CHAIN.index(fault.behind_contracts) :] if fault.behind_contracts else ()
    take_over(healthy, root, below if worker or limits else ())
    if mended is not None:
        take_over(faulty, root, below)
    if limits:
        warm.limits[f"lifecycle.workers.{fault.behind_contracts}"] = limits
    live(config, Store(root), worker)


def take_over(source: Path, root: Path, without: Sequence[str]) -> None:
    """Have another store's sealed artifacts here too, but for those of some stages."""
    for manifest in (source / "artifacts").glob(f"*/*/{MANIFEST}"):
        folder = manifest.parent
        mine = root / "artifacts" / folder.parent.name / folder.name
        if folder.parent.name not in without and not mine.exists():
            shutil.copytree(folder, mine, copy_function=os.link)


def folder_of(fault: Fault, seed: int, mended: Knob | None = None) -> str:
    """The name of a fault's store."""
    return f"{seed}-{fault.name.replace(' ', '-').replace(',', '')}" + ("" if mended is None else "-mended")


def _change(mended: Knob | None) -> str:
    """What a change does: with another one a run is another."""
    return "" if mended is None else " ".join((mended.stage, *mended.settings))


def is_made(folder: Path, fault: Fault, seed: int, mended: Knob | None = None) -> bool:
    """Whether the run of a fault was made before, with this very change."""
    done = folder / folder_of(fault, seed, mended) / DONE
    return done.exists() and done.read_text() == _change(mended)


def made(fault: Fault, seed: int, folder: Path, mended: Knob | None = None) -> Records:
    """The run of a fault, made now if it was not before."""
    root = folder / folder_of(fault, seed, mended)
    if not is_made(folder, fault, seed, mended):
        (root / DONE).unlink(missing_ok=True)
        print(f"{fault.problem}: {fault.name}, seed {seed}{'' if mended is None else f', {mended.change}'}", flush=True)
        shutil.rmtree(root / "runs", ignore_errors=True)  # of a bench that was stopped; what it sealed is good
        root.mkdir(parents=True, exist_ok=True)
        child = multiprocessing.get_context("fork").Process(target=plant, args=(fault, seed, root, mended))
        child.start()
        child.join()
        (root / DONE).write_text(_change(mended))
    return Records(Store(root), Run(next(iter(sorted(root.glob("runs/*/run.json"), reverse=True))).parent))


def scores(records: Records) -> dict[str, float]:
    """What the candidate scored on the contract; nothing where it was not evaluated, or no answer could be."""
    found = {} if records.report is None else records.report.scores
    means = {name: found[name].mean for name in SCORES if name in found}
    return {name: round(mean, 4) for name, mean in means.items() if mean is not None}
