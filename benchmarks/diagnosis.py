"""How often is the diagnosis right? Faults planted in the tiny lifecycle, each really run, each diagnosed.

    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --json docs/diagnosis.json
    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --only preference eval_blindness
    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --fit lifecycle/diagnosis/weights.json
    python -m benchmarks.diagnosis --store .lifecycle-faults --seeds 0 --mend

Stages that a fault does not touch are those of the healthy run of the same seed. Weights are fitted on one half of the
faults of each problem; the other half says what they are worth. A run once made is diagnosed again without a rerun.
`--mend` runs each fault again with the first change its diagnosis names, and says how much of the lost score came back.
"""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import warm
from benchmarks.faults import FAULTS, SHIPPED, Fault, half_of
from benchmarks.planting import TRAINING, is_made, made, scores
from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import PROBLEMS, Answer, Reading
from lifecycle.diagnosis.verdict import HEALTHY, Weights, fitted, ranking
from lifecycle.evaluation.statistics import clopper_pearson

TAIL = 0.025
BEGIN, END = "<!-- from docs/diagnosis.json -->", "<!-- end -->"
LOST = 0.05  # of a score, from which on there is something to bring back


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


def mend(found: Case, folder: Path, weights: Weights, healthy: Case, *, only_made: bool) -> dict[str, Any] | None:
    """How much of what a fault cost comes back with the first change that its diagnosis names; None: it cost nothing.

    The score is that of the contract of which it lost most; a run that was never evaluated has lost all of it.
    """
    was, is_ = healthy.scores, {name: found.scores.get(name, 0.0) for name in healthy.scores}
    name = max(was, key=lambda score: was[score] - is_[score])
    lost = was[name] - is_[name]
    knobs = ranking(found.answers, weights)[0].knobs
    if found.problem == HEALTHY or lost < LOST:
        return None
    row = {
        "fault": found.fault,
        "half": found.half,
        "seed": found.seed,
        "score": name,
        "healthy": was[name],
        "faulty": is_[name],
    }
    if not knobs:
        return {**row, "change": None, "mended": is_[name], "back": 0.0}
    fault = next(fault for fault in FAULTS if fault.name == found.fault)
    if only_made and not is_made(folder, fault, found.seed, mended=True):
        return None
    after = scores(made(fault, found.seed, folder, knobs[0])).get(name, 0.0)
    change = {"change": knobs[0].change, "stage": knobs[0].stage, "settings": knobs[0].settings}
    return {**row, **change, "mended": after, "back": round((after - is_[name]) / lost, 4)}


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
    interval = clopper_pearson(hits, of, tail=TAIL)
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
    confusion = {f"{a} -> {b}": n for (a, b), n in told.items()}
    return {"cases": rows, "shares": shares, "confusion": confusion, "calibration": calibration(rows)}


def calibration(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often the first answer was right where it said it was so likely, printed."""
    found = []
    for low, high in pairwise((0.0, 0.5, 0.7, 0.9, 1.01)):
        mine = [row for row in rows if low <= row["probability"] < high]
        if mine:
            said = sum(row["probability"] for row in mine) / len(mine)
            right = share(sum(row["first"] == row["problem"] for row in mine), len(mine))
            found.append({"from": low, "said": round(said, 3), "right": right})
            print(f"said {said:.2f}: right {right}")
    return found


def mends(cases: Sequence[Case], folder: Path, weights: Weights, *, only_made: bool) -> list[dict[str, Any]]:
    """What came back of every fault that cost something, printed."""
    healthy = {found.seed: found for found in cases if found.fault == SHIPPED.name}
    mended = [mend(found, folder, weights, healthy[found.seed], only_made=only_made) for found in cases]
    rows = [row for row in mended if row is not None]
    print("\nthe first change each diagnosis names")
    for row in rows:
        print(f"{row['fault']:<32}{row['score']:<26}{row['faulty']:.3f} -> {row['mended']:.3f}  {row['change']}")
    if rows:
        lost = sum(row["healthy"] - row["faulty"] for row in rows)
        back = sum(min(row["mended"], row["healthy"]) - row["faulty"] for row in rows)
        print(f"of {len(rows)} faults {back / lost:.1%} of what was lost comes back")
    return rows


def markdown(data: dict[str, Any]) -> str:
    """The table of docs/diagnosis.md: what was planted, what it cost, what was answered, what came back."""
    back = {(row["fault"], row["seed"]): f"{row['back']:.0%}" for row in data.get("mended", ())}
    lines = [
        "| planted | half | ended | greedy, sampled exact | named first | stage | back |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in data["cases"]:
        said = ", ".join(f"{value:.2f}" for value in row["scores"].values()) or "not evaluated"
        first = f"{row['first']} {row['probability']:.2f}"
        named = first if row["first"] == row["problem"] else f"**{first}**, then {row['second']}"
        cells = (
            f"{row['problem']}: {row['fault']}",
            row["half"],
            row["state"].lower(),
            said,
            named,
            row["stage"] or "",
        )
        lines.append(f"| {' | '.join(cells)} | {back.get((row['fault'], row['seed']), '')} |")
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in data["shares"].items())]) + "\n"


def main() -> int:
    """Run what was not run yet, diagnose all, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the stores, one a fault and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="problems, or names of faults")
    parser.add_argument("--half", choices=("tuning", "held out"), help="whoever tunes looks at one half only")
    parser.add_argument("--fit", type=Path, help="write weights fitted on the tuning half here")
    parser.add_argument("--made", action="store_true", help="run nothing: only what was run before")
    parser.add_argument("--mend", action="store_true", help="also apply the first change that each diagnosis names")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="a page whose table is drawn anew")
    options = parser.parse_args()
    if not options.made:
        warm.start()
        warm.fork_workers_of(*TRAINING)
    names = options.only or [*PROBLEMS, HEALTHY]
    named = [fault for name in names for fault in FAULTS if name in (fault.name, fault.problem)]
    wanted = [fault for fault in dict.fromkeys((SHIPPED, *named)) if options.half in (None, half_of(fault))]
    planned = [(fault, seed) for seed in options.seeds for fault in wanted]
    if options.made:
        planned = [each for each in planned if is_made(options.store, *each)]
    cases = [case(fault, seed, options.store) for fault, seed in planned]
    weights = fitted()
    if options.fit:
        weights = fit([found for found in cases if found.half == "tuning"])
        options.fit.write_text(json.dumps(weights.model_dump(), indent=1) + "\n")
    data = table(cases, weights)
    if options.mend:
        data["mended"] = mends(cases, options.store, weights, only_made=options.made)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.markdown:
        before, _, rest = options.markdown.read_text().partition(BEGIN)
        options.markdown.write_text(f"{before}{BEGIN}\n{markdown(data)}{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
