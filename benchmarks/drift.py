"""Are planted faults of preference training named, and is nobody accused who is healthy?

    python -m benchmarks.drift --store .lifecycle --seeds 10 --json drift.json

A store's newest SFT checkpoint learns the first pairs of its newest comparisons (`make run` leaves both), with drift
watched at its default limits: in several seeds as the recipe has it, and once with each fault. A row of the table is a
run: what was expected, and which rule ended it.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.store import newest
from lifecycle.data.jsonl import Row, load_rows, write_rows
from lifecycle.launchers.environment import worker_environment
from lifecycle.recipes.tiny import PACK

MARK = "LIFECYCLE_BENCHMARK"
PAIRS, HELD_OUT, GUARDS, EVERY = 240, 100, 240, 15
HEALTHY = {"learning_rate": 1.5e-4, "chosen_nll_weight": 1.0, "batch_pairs": 16}
Pairs = list[Row]


@dataclass(frozen=True)
class Run:
    """How a run ended: '' where no rule spoke."""

    name: str
    expected: str
    found: str
    step: int
    said: str
    kl: float
    contract: float
    reward_accuracy: float

    @property
    def as_expected(self) -> bool:
        return self.found in self.expected.split(" or ")


def swapped(pairs: Pairs) -> Pairs:
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs]


def random_labels(pairs: Pairs, share: float = 0.3) -> Pairs:
    """So many labels are drawn by a coin: half of them come out wrong."""
    draw = random.Random(0)
    return [swapped([row])[0] if draw.random() < share / 2 else row for row in pairs]


def by_length(pairs: Pairs) -> Pairs:
    """The longer answer wins, whatever it says."""

    def size(row: Row, side: str) -> int:
        return len(row[side][0]["content"])

    return [row if size(row, "chosen") > size(row, "rejected") else swapped([row])[0] for row in pairs]


Plant = tuple[str, str, Callable[[Pairs], Pairs], Callable[[Pairs], Pairs], dict[str, Any]]


def same(pairs: Pairs) -> Pairs:
    return pairs


PLANTS: list[Plant] = [
    ("labels to train on swapped", "labels_swapped", swapped, same, {}),
    ("30 % of all labels random", "labels_disagree", random_labels, random_labels, {}),
    (
        "step size 10 times too large, no chosen term",
        STOPS := "contract_falls or chosen_falls or moved_too_far",
        same,
        same,
        {"learning_rate": 1.5e-3, "chosen_nll_weight": 0.0},
    ),
    (
        "length alone, chosen longer, 5 times the step",
        f"{STOPS} or length_runs_away",
        by_length,
        by_length,
        {"learning_rate": 7.5e-4, "chosen_nll_weight": 0.0},
    ),
]


class Trained:
    """One SFT checkpoint and its pairs, trained again and again."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.folder, self.sft, self.number = folder, newest(store, "sft"), 0
        comparisons = newest(store, "comparisons")
        self.train = list(load_rows(comparisons / "train.jsonl"))
        self.held = list(load_rows(comparisons / "heldout.jsonl"))[:HELD_OUT]

    def run(
        self, name: str, expected: str, train: Callable[[Pairs], Pairs], held: Callable[[Pairs], Pairs], **settings: Any
    ) -> Run:
        """Train once; the first finding, or the last measurement of a run without one."""
        from lifecycle.errors import LifecycleError
        from lifecycle.sealing import read_manifest
        from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
        from lifecycle.training.drift import DriftPolicy
        from lifecycle.workers import preference
        from lifecycle.workers.job import Recorder

        self.number += 1
        out = self.folder / str(self.number)
        (out / "log").mkdir(parents=True)
        seed = settings.get("seed", 0)
        rows = random.Random(seed).sample(self.train, PAIRS)
        write_rows(out / "train.jsonl", train(rows))
        write_rows(out / "heldout.jsonl", held(self.held))
        policy = DriftPolicy(
            every_steps=EVERY, guard=PACK / "contract/dev.jsonl.gz", guard_rows=GUARDS, max_new_tokens=32
        )
        manifest = read_manifest(self.sft)
        job = PreferenceJob(
            out_dir=out,
            scratch_dir=out / "scratch",
            config=PreferenceConfig(**{**HEALTHY, "drift": policy, **settings}),
            sft=self.sft,
            train_file=out / "train.jsonl",
            heldout_file=out / "heldout.jsonl",
            max_seq_len=manifest.facts["max_seq_len"],
            inputs={"sft": manifest.digest},
            references=self.folder / "references",
        )
        said = ""
        try:
            preference.train(job, Recorder(out / "log"))
        except LifecycleError as error:
            said = str(error)
        findings = list(load_rows(out / "log/findings.jsonl")) if (out / "log/findings.jsonl").exists() else []
        metrics = [row for row in load_rows(out / "log/metrics.jsonl") if "drift/kl" in row]
        last = metrics[-1]
        return Run(
            name=name,
            expected=expected,
            found=findings[0]["rule"] if findings else said[:40],
            step=findings[0]["step"] if findings else last["step"],
            said=findings[0]["evidence"] if findings else "",
            kl=last["drift/kl"],
            contract=last["drift/contract"],
            reward_accuracy=last["drift/reward_accuracy"],
        )


def main() -> int:
    """Print a row a run; exit code 1 when one did not end as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=("healthy", "planted"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if MARK not in os.environ:  # glibc reads its settings when a process starts
        environment = {**worker_environment(1), MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.drift", *sys.argv[1:]], environment)
    runs: list[Run] = []
    print("| run | expected | found | step | KL, nats an answer | contract | held-out pairs won |")
    print("|---|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        trained = Trained(options.store, Path(folder))
        todo = [] if options.only == "healthy" else [(*plant[:4], plant[4]) for plant in PLANTS]
        if options.only != "planted":
            todo += [(f"healthy, seed {seed}", "", same, same, {"seed": seed}) for seed in range(options.seeds)]
        for name, expected, train, held, settings in todo:
            run = trained.run(name, expected, train, held, **settings)
            runs.append(run)
            shown = f"{run.step} | {run.kl:.2f} | {run.contract:.3f} | {run.reward_accuracy:.2f}"
            print(f"| {name} | {expected or 'nothing'} | {run.found or 'nothing'} | {shown} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    return 0 if all(run.as_expected for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
