"""Does the watchdog accuse healthy runs? The laptop recipe's pretraining with many seeds, and every finding it made.

    python -m benchmarks.watchdog --seeds 20 --store DIR --json docs/watchdog.json

A seed takes as long as pretraining does (90 s on 2 quiet cores); with a store a second call goes on where the first
one ended. Faults are planted in tests/lifecycle/workers/test_watched_pretrain.py.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from lifecycle.artifacts import Checkpoint
from lifecycle.recipes.tiny import tiny
from lifecycle.sealing import LOG_FOLDER
from lifecycle.stages.corpus import build_corpus
from lifecycle.stages.pretrain import Steps, pretrain
from lifecycle.stages.shards import pack_shards
from lifecycle.stages.suites import collect_suites
from lifecycle.stages.tokenizer import train_tokenizer
from lifecycle.store import Store


def trained(store: Store, seed: int, steps: int | None) -> Checkpoint:
    """The base model of one seed, made or found."""
    config = tiny(seed)
    suites = store.make(collect_suites, config.suites).artifact
    corpus = store.make(build_corpus, config.corpus, suites).artifact
    tokenizer = store.make(train_tokenizer, config.tokenizer, corpus).artifact
    shards = store.make(pack_shards, config.shards, corpus, tokenizer).artifact
    settings = config.pretrain if steps is None else config.pretrain.model_copy(update={"horizon": Steps(steps=steps)})
    checkpoint: Checkpoint = store.make(pretrain, settings, shards, tokenizer, on_drift="rebuild").artifact
    return checkpoint


def findings(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What was said in this run, about the machine too."""
    file = checkpoint.path / LOG_FOLDER / "findings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> int:
    """Print a row a seed; exit code 1 when a healthy run was accused of anything but slowness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, help="a shorter horizon than the recipe's")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    store = Store(options.store or Path(tempfile.mkdtemp(prefix="watchdog-")))
    rows = []
    print("| seed | steps | held-out loss | seconds | findings |\n|---:|---:|---:|---:|---|")
    for seed in range(options.seeds):
        made = trained(store, seed, options.steps)
        said = findings(made)
        row = {"seed": seed, "steps": made.steps, "loss": made.final_loss, "counted": made.findings, "said": said}
        rows.append({**row, "seconds": made.manifest.seconds})
        rules = ", ".join(f"{one['rule']} in step {one['step']}" for one in said) or "none"
        print(f"| {seed} | {made.steps} | {made.final_loss:.3f} | {made.manifest.seconds:.0f} | {rules} |", flush=True)
    accused = sum(bool(row["counted"]) for row in rows)
    print(f"\n{accused} of {len(rows)} healthy runs accused")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if accused else 0


if __name__ == "__main__":
    sys.exit(main())
