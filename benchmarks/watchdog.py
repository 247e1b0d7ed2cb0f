"""Does the watchdog accuse healthy runs? The laptop recipe's whole pretraining with many seeds, and all it said.

    python -m benchmarks.watchdog --seeds 20 --ranks 1 --store DIR --json docs/watchdog.json

Seeds share corpus, tokenizer and shards. A row is written as soon as its seed is through, and a later call with the
same files does what is missing: sessions add up. With a store a seed that was cut off goes on from its last checkpoint.
`--ranks 1` takes one core for longer and gives the same losses but for their last digits; how a run is spread is no
part of what is trained. Faults are planted in tests/lifecycle/workers/test_watched_pretrain.py.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from lifecycle.artifacts import Tokenizer, TokenShards
from lifecycle.errors import ConfigError, TrainingDiverged
from lifecycle.recipes.tiny import tiny
from lifecycle.sealing import LOG_FOLDER, canonical, short_digest, write_atomically
from lifecycle.source import source_closure
from lifecycle.stages.corpus import build_corpus
from lifecycle.stages.pretrain import PretrainConfig, Steps, pretrain
from lifecycle.stages.shards import pack_shards
from lifecycle.stages.suites import collect_suites
from lifecycle.stages.tokenizer import train_tokenizer
from lifecycle.store import Store


def settings(seed: int, steps: int | None, ranks: int | None) -> PretrainConfig:
    """The recipe's pretraining of one seed, spread over `ranks` processes of one thread each."""
    config = tiny(seed).pretrain
    assert config is not None, "the recipe trains a base"
    if steps is not None:
        config = config.model_copy(update={"horizon": Steps(steps=steps)})
    return config if ranks is None else config.model_copy(update={"ranks": ranks, "threads": 1})


def data(store: Store) -> tuple[TokenShards, Tokenizer]:
    """What every seed reads, made or found."""
    config = tiny()
    assert config.corpus is not None, "the recipe trains a base"
    assert config.tokenizer is not None
    assert config.shards is not None
    corpus = store.make(build_corpus, config.corpus, store.make(collect_suites, config.suites).artifact).artifact
    tokenizer = store.make(train_tokenizer, config.tokenizer, corpus).artifact
    return store.make(pack_shards, config.shards, corpus, tokenizer).artifact, tokenizer


def row(store: Store, config: PretrainConfig, shards: TokenShards, tokenizer: Tokenizer) -> dict[str, Any]:
    """What one seed said: `counted` accuses the training, `said` holds what was said about the machine too."""
    made_by = {"seed": config.seed, "ranks": config.ranks, "source": short_digest(source_closure(pretrain))}
    try:
        made = store.make(pretrain, config, shards, tokenizer, on_drift="rebuild").artifact
    except TrainingDiverged as ended:  # the worst of false alarms, and no reason to leave the other seeds out
        return {**made_by, "steps": 0, "loss": None, "seconds": None, "counted": {"abort": 1}, "said": [str(ended)]}
    file = made.path / LOG_FOLDER / "findings.jsonl"
    said = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    measured = {"steps": made.steps, "loss": made.final_loss, "seconds": round(made.manifest.seconds, 1)}
    return {**made_by, **measured, "counted": made.findings, "said": said}


def rows_so_far(file: Path | None, what: str) -> list[dict[str, Any]]:
    """The rows of earlier calls. Raises ConfigError where they are of other settings or other data."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text())
    if found["settings"] != what:
        raise ConfigError(
            f"expected rows of the settings {what} in {file}, found {found['settings']}: the recipe or its data "
            "changed. Remove the file, or name another."
        )
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def shown(one: dict[str, Any]) -> str:
    """A row of the table."""
    if one["loss"] is None:
        return f"| {one['seed']} | {one['ranks']} | | | | {one['said'][0]} |"
    rules = ", ".join(f"{said['rule']} in step {said['step']}" for said in one["said"]) or "none"
    return f"| {one['seed']} | {one['ranks']} | {one['steps']} | {one['loss']:.3f} | {one['seconds']:.0f} | {rules} |"


def main() -> int:
    """Print a row a seed; exit code 1 when a healthy run was accused of anything but slowness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, help="a shorter horizon than the recipe's")
    parser.add_argument("--ranks", type=int, help="processes of one thread; default: the recipe's")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    store = Store(options.store or Path(tempfile.mkdtemp(prefix="watchdog-")))
    shards, tokenizer = data(store)
    what = short_digest([canonical(settings(0, options.steps, None)), shards.digest, tokenizer.digest])
    rows = rows_so_far(options.json, what)
    print("| seed | ranks | steps | held-out loss | seconds | findings |\n|---:|---:|---:|---:|---:|---|")
    for seed in range(options.seeds):
        known = next((one for one in rows if one["seed"] == seed), None)
        if known is None:
            known = row(store, settings(seed, options.steps, options.ranks), shards, tokenizer)
            rows = sorted([*rows, known], key=lambda one: one["seed"])
            if options.json:
                write_atomically(options.json, json.dumps({"settings": what, "rows": rows}, indent=1).encode() + b"\n")
        print(shown(known), flush=True)
    accused = sum(bool(one["counted"]) for one in rows)
    print(f"\n{accused} of {len(rows)} healthy runs accused")
    return 1 if accused else 0


if __name__ == "__main__":
    sys.exit(main())
