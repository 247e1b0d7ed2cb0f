"""How many supervised tokens a CPU-second are learned, against TRL's own trainer and a bare PEFT loop?

    python -m benchmarks.sft --store .lifecycle --json sft.json

A store's newest base checkpoint learns its newest demonstrations (`make run` leaves both). First every side takes the
same steps on the same rows in fp32: a row counts only where their losses are equal. Then each runs as it is set up by
default, in turn, several rounds. One thread: CPU-seconds then mean work, not waiting.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.sft_peers import Bench, lora
from benchmarks.store import newest
from lifecycle.launchers.environment import worker_environment

MARK = "LIFECYCLE_BENCHMARK"
ROUNDS = 5
STEPS, BATCH = 24, 16
TOLERANCE = 2e-4  # of a step's loss, in nats, after 24 steps in fp32
LARGE_STEPS, LARGE_BATCH, LARGE_TOLERANCE = 3, 4, 2e-3
SMOLLM2_135M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
Side = Callable[[], tuple[float, float]]
"""Trains a fresh model; CPU-seconds, and supervised tokens (or pairs)."""


@dataclass(frozen=True)
class Row:
    """Supervised tokens per CPU-second, medians; `spread` is the fastest over the slowest round of ours."""

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    n: int
    bar: float
    spread: float
    largest_loss_difference: float | None


def compare(
    name: str,
    ours: Side,
    peer: Side,
    *,
    bar: float,
    rounds: int,
    difference: float | None,
    unit: str = "supervised tokens per CPU-second",
) -> Row:
    """Both in turn, several rounds."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, run in enumerate((ours, peer)):
            seconds, tokens = run()
            rates[side].append(tokens / seconds)
    mine, theirs = map(statistics.median, rates)
    row = Row(
        name=name,
        ours=round(mine, 1),
        peer=round(theirs, 1),
        ratio=round(mine / theirs, 2),
        unit=unit,
        n=rounds,
        bar=bar,
        spread=round(max(rates[0]) / min(rates[0]), 2),
        largest_loss_difference=difference,
    )
    equal = "not comparable" if difference is None else f"{difference:.0e}"
    print(f"| {name} | {mine:,.0f} | {theirs:,.0f} | {row.ratio:.2f} | {bar or ''} | {equal} |", flush=True)
    return row


def equal(name: str, ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> float:
    """The largest difference of two loss curves; ends the program when it is more than rounding."""
    assert len(ours) == len(theirs), (name, len(ours), len(theirs))
    difference = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    if not difference <= tolerance:
        sys.exit(f"{name}: expected the losses of our steps to {tolerance:g}, found a difference of {difference:g}.")
    return difference


def short_answers(bench: Bench, rounds: int) -> list[Row]:
    """The recipe's model: TRL as it comes, without activation checkpointing, and packing; our other layouts."""
    fp32 = bench.ours(precision="fp32")[0]
    theirs = bench.trl(in_our_order=True, bf16=False, gradient_checkpointing=False)[0]
    trl = equal("TRL", fp32, theirs, TOLERANCE)
    layouts = {
        layout: equal(layout, fp32, bench.ours(precision="fp32", layout=layout)[0], TOLERANCE)
        for layout in ("packed", "padding_free")
    }

    def ours(**settings: Any) -> Side:
        return lambda: bench.ours(**settings)[1:]

    def peer(**settings: Any) -> Side:
        return lambda: bench.trl(**settings)[1:]

    one: dict[str, Any] = {"rounds": rounds}
    lean = {"gradient_checkpointing": False}
    return [
        compare("TRL, its defaults", ours(), peer(), bar=1.5, difference=trl, **one),
        compare("TRL, no activation checkpointing", ours(), peer(**lean), bar=1.5, difference=trl, **one),
        compare(
            "TRL, packing, no activation checkpointing",
            ours(),
            peer(packing=True, **lean),
            bar=1.2,
            difference=None,
            **one,
        ),
        *(
            compare(f"ours, layout {layout}", ours(), ours(layout=layout), bar=0.0, difference=difference, **one)
            for layout, difference in layouts.items()
        ),
    ]


def large_adapter(bench: Bench, rounds: int) -> Row:
    """LoRA at SmolLM2-135M's shape."""
    mine = bench.ours(precision="fp32", lora=lora(), attention="sdpa")[0]
    difference = equal("bare PEFT", mine, bench.bare_peft(bf16=False)[0], LARGE_TOLERANCE)
    return compare(
        "LoRA at 135M: bare PEFT loop",
        lambda: bench.ours(lora=lora(), attention="sdpa")[1:],
        lambda: bench.bare_peft()[1:],
        bar=1.0,
        rounds=rounds,
        difference=difference,
    )


def random_135m(base: Path, folder: Path) -> Path:
    """A base checkpoint of SmolLM2-135M's shape with random weights, and the tokenizer of `base`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lifecycle.chat.folder import copy_tokenizer
    from lifecycle.chat.protocol import protocol_of

    protocol = protocol_of(base)
    torch.manual_seed(0)
    ids = {"bos_token_id": protocol.bos_id, "pad_token_id": protocol.pad_id, "eos_token_id": protocol.stop_id}
    LlamaForCausalLM(LlamaConfig(**SMOLLM2_135M, **ids)).save_pretrained(folder)
    copy_tokenizer(base, folder)
    return folder


def main() -> int:
    """Print a row a peer; exit code 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=("short", "135m"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if MARK not in os.environ:  # glibc reads its settings when a process starts; both sides gain by them
        environment = {**worker_environment(1), MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.sft", *sys.argv[1:]], environment)
    base, demonstrations = newest(options.store, "pretrain"), newest(options.store, "demonstrations")
    print("| peer | ours | peer | ratio | bar | largest difference of a loss, fp32 |\n|---|---:|---:|---:|---:|---|")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        at = {"max_seq_len": 128}
        if options.only != "135m":
            short = Bench(base, demonstrations, Path(folder, "short"), batch=BATCH, steps=STEPS, **at)
            rows += short_answers(short, options.rounds)
        if options.only != "short":
            shaped = random_135m(base, Path(folder, "135m"))
            large = Bench(shaped, demonstrations, Path(folder, "large"), batch=LARGE_BATCH, steps=LARGE_STEPS, **at)
            rows.append(large_adapter(large, max(3, options.rounds // 2)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.ratio >= row.bar for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
