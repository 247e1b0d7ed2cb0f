"""Does the laptop recipe learn? Three seeds from raw text to release, every checkpoint scored on held-out items.

    python -m benchmarks.learning --seeds 0 1 2 --json docs/learning.json --markdown docs/learning.md

Stages run without an orchestrator, through the same store: a second call reuses what is sealed. The bars are those of
the project's first milestone; a row says what was measured, never that it was fine.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifecycle.artifacts import Checkpoint, Corpus, EvalReport, GateDecision, Suites
from lifecycle.recipes.tiny import tiny
from lifecycle.sealing import StageConfig
from lifecycle.stages.comparisons import curate_comparisons
from lifecycle.stages.corpus import build_corpus
from lifecycle.stages.demonstrations import curate_demonstrations
from lifecycle.stages.evaluate import EvaluateConfig, evaluate
from lifecycle.stages.gate import decide_gate
from lifecycle.stages.preference import align
from lifecycle.stages.pretrain import pretrain
from lifecycle.stages.release import release
from lifecycle.stages.sft import fine_tune
from lifecycle.stages.shards import pack_shards
from lifecycle.stages.suites import collect_suites
from lifecycle.stages.tokenizer import train_tokenizer
from lifecycle.store import Store

Scores = dict[str, float]


@dataclass(frozen=True)
class SeedResult:
    """What one seed gave: scores of its three checkpoints, the numbers to beat, and the gate's answer."""

    seed: int
    base: Scores
    sft: Scores
    preference: Scores
    baselines: Scores
    verdict: str
    release_equals_report: bool
    seconds: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One bar: the mean of `values` (one a seed) held against `limit`."""

    name: str
    values: list[float]
    limit: float
    better: str

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def holds(self) -> bool:
        return self.mean <= self.limit if self.better == "lower" else self.mean >= self.limit


def run_seed(store: Store, seed: int) -> SeedResult:
    """The whole chain for one seed, and an evaluation of each of its checkpoints and of the released folder."""
    config = tiny(seed)
    seconds: dict[str, float] = {}

    def make(name: str, stage: Callable[..., Any], *args: Any) -> Any:
        made = store.make(stage, *args, on_drift="rebuild")
        seconds[name] = made.artifact.manifest.seconds
        print(f"  seed {seed} {name:<14} {'reused' if made.reused else f'{made.seconds:.1f} s'}", flush=True)
        return made.artifact

    suites = make("suites", collect_suites, config.suites)
    corpus = make("corpus", build_corpus, config.corpus, suites)
    tokenizer = make("tokenizer", train_tokenizer, config.tokenizer, corpus)
    shards = make("shards", pack_shards, config.shards, corpus, tokenizer)
    base = make("pretrain", pretrain, config.pretrain, shards, tokenizer)
    sft = make(
        "sft", fine_tune, config.sft, base, make("demonstrations", curate_demonstrations, config.demonstrations, suites)
    )
    pairs = make("comparisons", curate_comparisons, config.comparisons, suites)
    preference = make("preference", align, config.preference, sft, pairs)
    reports = {
        role: make(f"evaluate {role}", evaluate, config.evaluate, checkpoint, suites, corpus)
        for role, checkpoint in {"base": base, "sft": sft, "preference": preference}.items()
    }
    decision: GateDecision = make("gate", decide_gate, config.gate, reports["preference"])
    equal = False
    if decision.promote:
        shipped = make("release", release, config.release, preference, decision, reports["preference"])
        again = evaluate_folder(shipped.model_dir, preference, config.evaluate, suites, corpus)
        equal = again.scores == reports["preference"].scores
    means = {
        role: {n: s.mean for n, s in report.scores.items() if s.mean is not None} for role, report in reports.items()
    }
    return SeedResult(
        seed,
        **means,
        baselines=reports["preference"].baselines,
        verdict=decision.verdict,
        release_equals_report=equal,
        seconds=seconds,
    )


def evaluate_folder(
    folder: Path, like: Checkpoint, config: EvaluateConfig, suites: Suites, corpus: Corpus
) -> EvalReport:
    """An evaluation of a fresh copy of exactly the files in `folder`, outside the store: nothing can be reused."""
    with tempfile.TemporaryDirectory() as scratch:
        copy, out_dir = Path(scratch, "model"), Path(scratch, "report")
        shutil.copytree(folder, copy)
        out_dir.mkdir()
        return evaluate(
            config, Checkpoint(path=copy, **like.facts()).seal(ReleasedFolder()), suites, corpus, out_dir=out_dir
        )


class ReleasedFolder(StageConfig):
    """Identity of a checkpoint read back from a release."""

    stage = "released"


def rows(results: list[SeedResult]) -> list[Row]:
    """Every bar of the milestone, from the scores of all seeds."""
    majority = "contract.majority_answer"
    sources = sorted(n.removeprefix("bigram_") for n in results[0].baselines if n.startswith("bigram_bits_per_byte"))
    bits = [
        Row(
            f"base: {s} / interpolated bigram", [r.base[s] / r.baselines[f"bigram_{s}"] for r in results], 0.93, "lower"
        )
        for s in sources
    ]
    correct, stopped, exact = "contract.greedy_correct", "contract.greedy_stopped", "contract.sampled_exact"
    return [
        *bits,
        Row(
            "sft: greedy correct - majority answer",
            [r.sft[correct] - r.baselines[majority] for r in results],
            0.40,
            "higher",
        ),
        Row("sft: stop token produced", [r.sft[stopped] for r in results], 0.99, "higher"),
        Row("dpo: sampled exact - sft's", [r.preference[exact] - r.sft[exact] for r in results], 0.20, "higher"),
        Row("dpo: greedy correct - sft's", [r.preference[correct] - r.sft[correct] for r in results], -0.02, "higher"),
        Row("gate promotes", [float(r.verdict == "PROMOTE") for r in results], 1.0, "higher"),
        Row("release scores as it was measured", [float(r.release_equals_report) for r in results], 1.0, "higher"),
    ]


def main() -> int:
    """Run the seeds, print the bars, write what was asked for. Exit code 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", type=Path, default=Path(".lifecycle-learning"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    store = Store(arguments.store)
    results = [run_seed(store, seed) for seed in arguments.seeds]
    table = rows(results)
    text = markdown(table, results)
    print(text)
    if arguments.json:
        record = {
            "rows": [asdict(row) | {"mean": row.mean, "holds": row.holds} for row in table],
            "seeds": [asdict(r) for r in results],
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return 0 if all(row.holds for row in table) else 1


def markdown(table: list[Row], results: list[SeedResult]) -> str:
    """The bars, then every score of every checkpoint, as Markdown."""
    seeds = [result.seed for result in results]
    lines = [
        "# What the laptop recipe learns",
        "",
        f"Made by `python -m benchmarks.learning --seeds {' '.join(map(str, seeds))} --json docs/learning.json "
        "--markdown docs/learning.md`; held-out items only. What was tried on the way: [design.md](design.md).",
        "",
        "| bar | limit | mean | " + " | ".join(f"seed {seed}" for seed in seeds) + " | holds |",
        "|---|---|---|" + "---|" * (len(seeds) + 1),
    ]
    for row in table:
        sign = "<=" if row.better == "lower" else ">="
        values = " | ".join(f"{value:.3f}" for value in row.values)
        lines.append(
            f"| {row.name} | {sign} {row.limit} | {row.mean:.3f} | {values} | {'yes' if row.holds else '**no**'} |"
        )
    lines += [
        "",
        "Scores, mean of the seeds:",
        "",
        "| metric | baseline | base | sft | preference |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(results[0].preference):
        known = [r.baselines.get(f"bigram_{name}", r.baselines.get(BASELINE_OF.get(name, ""))) for r in results]
        baseline = "" if None in known else f"{statistics.fmean(v for v in known if v is not None):.3f}"
        means = [
            statistics.fmean(getattr(r, role).get(name, float("nan")) for r in results)
            for role in ("base", "sft", "preference")
        ]
        lines.append(f"| {name} | {baseline} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    slowest = {name: statistics.median(r.seconds[name] for r in results) for name in results[0].seconds}
    lines += [
        "",
        "Median seconds a stage, beside whatever else the machine did: "
        + ", ".join(f"{name} {value:.1f}" for name, value in slowest.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


BASELINE_OF = {"contract.greedy_correct": "contract.majority_answer"}

if __name__ == "__main__":
    sys.exit(main())
