"""How often is the diagnosis right? Faults planted in the tiny lifecycle, each really run, each diagnosed.

    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --json docs/diagnosis.json
    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --only preference eval_blindness
    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --fit lifecycle/diagnosis/weights.json

Stages that a fault does not touch are those of the healthy run of the same seed. Weights are fitted on one half of the
faults of each problem; the other half says what they are worth. A run once made is diagnosed again without a rerun.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import warm
from benchmarks.faults import FAULTS, SHIPPED, Fault, half_of
from benchmarks.planted import PLANT
from benchmarks.small import small
from lifecycle.artifacts import Artifact, Checkpoint
from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import PROBLEMS, Answer, Knob, Reading
from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import CHAIN, HEALTHY, Weights, fitted, ranking
from lifecycle.errors import LifecycleError
from lifecycle.evaluation.statistics import clopper_pearson
from lifecycle.recipes import LifecycleConfig, override
from lifecycle.runs import Run
from lifecycle.sealing import MANIFEST
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

TAIL = 0.025
MEASURED_ITEMS = 300
SCORES = ("contract.greedy_correct", "contract.sampled_exact")


@dataclass(frozen=True)
class Case:
    """A fault that was planted with a seed, and what every probe said."""

    fault: str
    problem: str
    half: str
    stages: tuple[str, ...]
    seed: int
    state: str
    scores: dict[str, float]
    answers: tuple[Answer, ...]
    seconds: float


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


def folder_of(fault: Fault, seed: int) -> str:
    """The name of a fault's store."""
    return f"{seed}-{fault.name.replace(' ', '-').replace(',', '')}"


def made(fault: Fault, seed: int, folder: Path, mended: Knob | None = None) -> Records:
    """The run of a fault, made now if it was not before."""
    root = folder / (folder_of(fault, seed) + ("" if mended is None else "-mended"))
    done = root / "planted"
    if not done.exists():
        print(f"{fault.problem}: {fault.name}, seed {seed}{'' if mended is None else f', {mended.change}'}", flush=True)
        shutil.rmtree(root / "runs", ignore_errors=True)  # of a bench that was stopped; what it sealed is good
        root.mkdir(parents=True, exist_ok=True)
        child = multiprocessing.get_context("fork").Process(target=plant, args=(fault, seed, root, mended))
        child.start()
        child.join()
        done.touch()
    return Records(Store(root), Run(next(iter(sorted(root.glob("runs/*/run.json"), reverse=True))).parent))


def case(fault: Fault, seed: int, folder: Path) -> Case:
    """What came of a fault, and what every probe says of it."""
    records = made(fault, seed, folder)
    began = time.monotonic()
    answers = tuple(probe(records) for probe in PROBES)
    seconds = time.monotonic() - began
    return Case(
        fault.name,
        fault.problem,
        half_of(fault),
        fault.stages,
        seed,
        records.state,
        scores(records),
        answers,
        round(seconds, 2),
    )


def scores(records: Records) -> dict[str, float]:
    """What the candidate scored on the contract; nothing where it was not evaluated."""
    found = {} if records.report is None else records.report.scores
    return {name: round(found[name].mean, 4) for name in SCORES if name in found}


def first_two(found: Case, weights: Weights) -> tuple[list[str], str | None, float]:
    """The two likeliest problems, the stage named, and the probability of the first."""
    ranked = ranking(found.answers, weights)
    return [str(each.problem) for each in ranked[:2]], ranked[0].stage, ranked[0].probability


def fit(cases: Sequence[Case]) -> Weights:
    """Weights that make the tuning half likeliest: one at a time over a grid, until none gets better."""
    names = sorted({each.probe for found in cases for each in found.answers if isinstance(each, Reading)})
    weights = Weights(probes=dict.fromkeys(names, 0.9), healthy_odds=0.5)

    def cost(tried: Weights) -> float:
        total = 0.0
        for found in cases:
            by_name = {str(each.problem): each.probability for each in ranking(found.answers, tried)}
            total -= math.log(max(by_name[found.problem], 1e-4))
        # Towards .9, so that a probe no fault of this half speaks to keeps its say.
        return total + 0.5 * sum((weight - 0.9) ** 2 for weight in tried.probes.values())

    best = cost(weights)
    while True:
        before = best
        for name in names:
            for value in (0.3, 0.5, 0.7, 0.8, 0.9, 0.97):
                tried = weights.model_copy(update={"probes": {**weights.probes, name: value}})
                if (found := cost(tried)) < best - 1e-9:
                    best, weights = found, tried
        for odds in (0.05, 0.1, 0.2, 0.5, 1.0):
            tried = weights.model_copy(update={"healthy_odds": odds})
            if (found := cost(tried)) < best - 1e-9:
                best, weights = found, tried
        if best > before - 1e-6:
            return weights


def share(hits: int, of: int) -> str:
    """A share with its exact interval."""
    if not of:
        return "none run"
    interval = clopper_pearson(hits, of, TAIL)
    return f"{hits}/{of} = {hits / of:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def table(cases: Sequence[Case], weights: Weights) -> dict[str, Any]:
    """Print every case, the shares right by half, and the confusion of problems; the same as data."""
    told, rows = Counter[tuple[str, str]](), []
    for found in cases:
        two, stage, probability = first_two(found, weights)
        told[found.problem, two[0]] += 1
        rows.append(
            {
                **{k: v for k, v in asdict(found).items() if k != "answers"},
                "first": two[0],
                "second": two[1],
                "stage": stage,
                "probability": probability,
            }
        )
        right = "right" if two[0] == found.problem else "SECOND" if two[1] == found.problem else "WRONG"
        print(
            f"{right:<7}{found.problem:<15}{found.fault:<32}{found.half:<9}{found.state:<13}"
            f"{' '.join(f'{value:.2f}' for value in found.scores.values()):<10}"
            f"-> {two[0]} {probability:.2f} ({stage}), then {two[1]}"
        )
    shares: dict[str, str] = {}
    for half in ("tuning", "held out"):
        mine = [row for row in rows if row["half"] == half and row["problem"] != HEALTHY]
        shares[f"{half}, first"] = share(sum(r["first"] == r["problem"] for r in mine), len(mine))
        shares[f"{half}, first two"] = share(sum(r["problem"] in (r["first"], r["second"]) for r in mine), len(mine))
        shares[f"{half}, stage"] = share(sum(r["stage"] in r["stages"] for r in mine), len(mine))
    healthy = [row for row in rows if row["problem"] == HEALTHY]
    shares["healthy accused"] = share(sum(r["first"] != HEALTHY for r in healthy), len(healthy))
    print()
    for name, value in shares.items():
        print(f"{name:<24}{value}")
    names = [*PROBLEMS, HEALTHY]
    print("\nplanted (down), named first (across)\n" + " " * 16 + "".join(f"{name[:9]:>10}" for name in names))
    for name in names:
        print(f"{name:<16}" + "".join(f"{told[name, other] or '.':>10}" for other in names))
    print(f"\nslowest diagnosis: {max(found.seconds for found in cases):.1f} s")
    return {"cases": rows, "shares": shares, "confusion": {f"{a} -> {b}": n for (a, b), n in told.items()}}


def main() -> int:
    """Run what was not run yet, diagnose all, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the stores, one a fault and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="problems, or names of faults")
    parser.add_argument("--half", choices=("tuning", "held out"), help="whoever tunes looks at one half only")
    parser.add_argument("--fit", type=Path, help="write weights fitted on the tuning half here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warm.start()
    warm.fork_workers_of(pretrain, sft, preference, evaluate)
    names = options.only or [*PROBLEMS, HEALTHY]
    named = [fault for name in names for fault in FAULTS if name in (fault.name, fault.problem)]
    wanted = [fault for fault in dict.fromkeys((SHIPPED, *named)) if options.half in (None, half_of(fault))]
    cases = [case(fault, seed, options.store) for seed in options.seeds for fault in wanted]
    weights = fitted()
    if options.fit:
        weights = fit([found for found in cases if found.half == "tuning"])
        options.fit.write_text(json.dumps(weights.model_dump(), indent=1) + "\n")
    data = table(cases, weights)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
