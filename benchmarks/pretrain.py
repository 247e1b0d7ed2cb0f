"""How fast does pretraining run on this machine's cores, beside a plain PyTorch loop and Hugging Face's Trainer?

    python -m benchmarks.pretrain --json pretrain.json

Ours is the stage's worker: DeepSpeed, watchdog, metrics, rows from checked shards; as it is, and with `compile`. Peers
get rows and positions in memory. The plain loop gets our allocator's settings and the fastest of three ways to use all
cores (threads that spin, threads that sleep, one process a core) in the first round. The Trainer is started as its
documentation starts it, `python train.py`; and, with no bar, tuned like the loop. Documents of a row see each other in
none. First all train in fp32 and must have equal losses; bf16 curves must stay together too. Beside the ratio of tokens
a second stands that of tokens a second of work of all cores: the steadier number where the machine does something else
too. Then where our work went.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lifecycle.data.layout import Concatenated, Segments
from lifecycle.data.packing import INDEX, Cuts, Index, RowWriter
from lifecycle.launchers.environment import worker_environment
from lifecycle.model.architecture import ModelConfig
from lifecycle.recipes.tiny import PACK, tiny
from lifecycle.stages.pretrain import PretrainJob, Steps

WINDOW = 10  # steps between two readings of the clock
EXACT_STEPS, EXACT = 8, 2e-5  # in fp32: all three sum the same numbers in other orders
CLOSE = 0.05  # nats, in bf16, where two orders of rounding drift apart
BARS = {"plain": 1.2, "trainer": 1.5, "tuned trainer": None}
PROGRAMS = {"compiled": "ours", "tuned trainer": "trainer"}
"""Which side of `pretrain_peers` a side is, where the names differ."""
EXTRAS = ("watchdog", "metrics", "rows")  # what is not training
AT_MOST = 0.01
CORES = os.cpu_count() or 1
SIZES = {
    "tiny": tiny().pretrain.model,
    "10x tiny": ModelConfig(hidden_size=384, layers=5, heads=6, kv_heads=6, intermediate_size=1024),
}


@dataclass(frozen=True)
class Row:
    """One measurement: tokens a second are medians, `spread` the fastest over the slowest round of ours."""

    name: str
    ours: float
    peer: float
    ratio: float
    bar: float | None
    unit: str
    n: int
    peer_uses: str
    processor_ratio: float
    spread: float


@dataclass(frozen=True)
class Cores:
    """A way to use all cores."""

    processes: int
    threads: int
    waiting: Literal["sleeping", "spinning", "as it comes"] = "sleeping"

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads} threads" + (f", {self.waiting}" if self.threads > 1 else "")

    def environment(self) -> dict[str, str]:
        """Our workers' settings, among them malloc's; nothing of them as it comes."""
        if self.waiting == "as it comes":
            return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MALLOC_"))}
        policy = {"OMP_WAIT_POLICY": "ACTIVE"} if self.waiting == "spinning" else {}
        return {**worker_environment(self.threads), **policy}


WAYS = (Cores(1, CORES), Cores(1, CORES, "spinning"), Cores(CORES, 1))
RANKS = Cores(CORES, 1)
AS_IT_COMES = Cores(1, CORES, "as it comes")
OURS = ("ours", "compiled")


def write_shards(folder: Path, max_seq_len: int) -> int:
    """Rows of the shipped text in bytes, a document after the other; how many ids there are."""
    from lifecycle.data.jsonl import read_lines

    rows = [line.row or {} for line in read_lines(PACK / "corpus/sqlite-manual.jsonl.gz")]
    documents = [np.array([0, *(1 + byte for byte in row["text"].encode())], np.uint16) for row in rows]
    written = []
    for name, part in (("train", documents[8:]), ("validation", documents[:8])):
        writer = RowWriter(folder, iter([f"{name}.bin"]), Concatenated(max_seq_len, "uint16"), rows_per_shard=9**9)
        lengths = np.array([len(document) for document in part], np.int64)
        writer.write(Segments.whole(np.concatenate(part), lengths, np.arange(len(part))))
        written += writer.close()
    index = Index(
        max_seq_len=max_seq_len,
        dtype="uint16",
        packing="concatenate",
        pad_id=1023,
        shards=written[:1],
        validation=written[1],
        tokens_by_source={},
        padding_tokens=0,
        tail_tokens=0,
        validation_tail_tokens=0,
        cuts=Cuts.model_validate(dict.fromkeys(Cuts.model_fields, 0)),
    )
    (folder / INDEX).write_text(index.model_dump_json())
    return 1024


class Contest:
    """One model, trained by ours and by each peer."""

    def __init__(self, folder: Path, name: str, rows: int, steps: int) -> None:
        self.folder, self.name, self.steps = folder, name, steps
        shards = folder / "shards"
        shards.mkdir(parents=True)
        recipe = tiny()
        self.max_seq_len = recipe.shards.max_seq_len
        self.vocab_size = write_shards(shards, self.max_seq_len)
        changed = {"model": SIZES[name], "batch_rows": rows, "ranks": CORES, "threads": 1}
        self.config = recipe.pretrain.model_copy(update=changed)
        self.tried = 0

    def job(self, steps: int, precision: str, log_every: int, *, compiled: bool) -> PretrainJob:
        self.tried += 1
        out_dir = self.folder / f"run-{self.tried}"
        out_dir.mkdir()
        horizon = {"horizon": Steps(steps=steps), "precision": precision, "log_every_steps": log_every}
        horizon["compile"] = compiled
        return PretrainJob(
            out_dir=out_dir,
            scratch_dir=out_dir / "scratch",
            config=self.config.model_copy(update=horizon),
            shards_dir=self.folder / "shards",
            shards_digest="0" * 64,
            max_seq_len=self.max_seq_len,
            vocab_size=self.vocab_size,
            bos_id=0,
            pad_id=1023,
            stop_id=1022,
        )

    def run(
        self, side: str, way: Cores, steps: int, precision: str = "bf16", log_every: int = WINDOW
    ) -> dict[str, Any]:
        """Losses and readings of the clocks of one side."""
        job = self.job(steps, precision, log_every, compiled=side == "compiled")
        result, file = job.out_dir / "result.json", job.out_dir / "job.json"
        file.write_text(job.model_dump_json())
        command = [sys.executable, "-m"]
        if way.processes > 1:
            command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(way.processes), "-m"]
        command += [
            "benchmarks.pretrain_peers",
            PROGRAMS.get(side, side),
            str(file),
            str(steps),
            str(log_every),
            str(result),
        ]
        with (job.out_dir / "log.txt").open("wb") as log:
            if subprocess.run(command, env=way.environment(), stdout=log, stderr=log).returncode:
                sys.exit(f"{side} failed: {(job.out_dir / 'log.txt').read_text()[-3000:]}")
        return dict(json.loads(result.read_bytes()))

    def speed(self, run: dict[str, Any]) -> tuple[float, float]:
        """Tokens a second, and a second of work, without the first window, in which everything is touched first."""
        clock = run["clock"][-(self.steps // WINDOW) :]
        tokens = (self.steps - WINDOW) * self.config.batch_rows * self.max_seq_len
        return tokens / (clock[-1][0] - clock[0][0]), tokens / (clock[-1][1] - clock[0][1])


def must_be_equal(contest: Contest) -> str:
    """All train alike, or AssertionError."""
    ours = contest.run("ours", RANKS, EXACT_STEPS, "fp32", 1)["losses"]
    apart = {}
    for side, way in (("compiled", RANKS), ("plain", WAYS[0]), ("trainer", AS_IT_COMES)):
        theirs = contest.run(side, way, EXACT_STEPS, "fp32", 1)["losses"]
        apart[side] = float(np.abs(np.subtract(ours, theirs)).max())
        # The Trainer rounds what it logs.
        assert apart[side] < EXACT + (1e-4 if side == "trainer" else 0), (side, ours, theirs)
    return ", ".join(f"{side} {value:.1e}" for side, value in apart.items())


def measure(contest: Contest, rounds: int) -> list[Row]:
    """All sides in turn; a tuned peer uses the cores in the way that was fastest in the first round."""
    ways: dict[str, tuple[Cores, ...]] = {"ours": (RANKS,), "compiled": (RANKS,), **dict.fromkeys(BARS, WAYS)}
    ways["trainer"] = (AS_IT_COMES,)
    speeds: dict[str, list[tuple[float, float]]] = {side: [] for side in ways}
    spent: list[dict[str, float]] = []
    for _ in range(rounds):
        losses = {}
        for side in ways:
            runs = {way: contest.run(side, way, contest.steps) for way in ways[side]}
            found = {way: contest.speed(run) for way, run in runs.items()}
            best = max(found, key=lambda way: found[way])
            print(f"  {contest.name}, {side}: " + "; ".join(f"{w} {s:,.0f} ({c:,.0f})" for w, (s, c) in found.items()))
            ways[side] = (best,)
            speeds[side].append(found[best])
            losses[side] = runs[best]["losses"][WINDOW - 1 :: WINDOW] if side == "plain" else runs[best]["losses"]
            if side == "ours":
                spent.append(shares(runs[best]))
        for side in ("compiled", "plain"):
            assert np.abs(np.subtract(losses["ours"], losses[side])).max() < CLOSE, (side, losses)
        sys.stdout.flush()
    print_shares(contest.name, spent)
    return [row(contest.name, mine, its, bar, ways[its][0], speeds) for mine in OURS for its, bar in BARS.items()]


def row(
    name: str, mine: str, its: str, bar: float | None, way: Cores, speeds: dict[str, list[tuple[float, float]]]
) -> Row:
    pairs = list(zip(speeds[mine], speeds[its], strict=True))
    ours = [speed for speed, _ in speeds[mine]]
    return Row(
        name=f"{name}, {mine} against {its}",
        ours=round(statistics.median(ours)),
        peer=round(statistics.median(speed for speed, _ in speeds[its])),
        ratio=round(statistics.median(one[0] / other[0] for one, other in pairs), 2),
        bar=bar,
        unit="tokens/s",
        n=len(pairs),
        peer_uses=str(way),
        processor_ratio=round(statistics.median(one[1] / other[1] for one, other in pairs), 2),
        spread=round(max(ours) / min(ours), 2),
    )


def shares(run: dict[str, Any]) -> dict[str, float]:
    """Of the seconds rank 0 worked behind the first window, the share of each part."""
    begin, end = run["work"][0], run["work"][-1]
    worked = (run["clock"][-1][1] - run["clock"][0][1]) / CORES
    found = {part: (end[part] - begin.get(part, 0.0)) / worked for part in end}
    return {**found, "the rest": 1 - sum(found.values())}


def print_shares(name: str, spent: list[dict[str, float]]) -> None:
    parts = {part: statistics.median(one[part] for one in spent) for part in spent[0]}
    extra = sum(parts[part] for part in EXTRAS)
    print(f"  {name}, work: " + ", ".join(f"{part} {share:.1%}" for part, share in parts.items()))
    held = "held" if extra <= AT_MOST else "NOT HELD"
    print(f"  {name}, watchdog, metrics and rows: {extra:.2%}, bar {AT_MOST:.0%}: {held}")


def main() -> int:
    """Print a row a size and peer; exit code 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16, help="Of a batch.")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=SIZES, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[Row] = []
    started = time.monotonic()
    for name in arguments.only or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(Path(folder), name, arguments.rows, arguments.steps)
            print(f"{name}: losses apart in fp32: {must_be_equal(contest)}", flush=True)
            rows += measure(contest, arguments.rounds)
    print("\n| model, peer | ours, tokens/s | peer | ratio | bar | of work | peer uses | spread |")
    print("|---|---:|---:|---:|---:|---:|---|---:|")
    for one in rows:
        print(
            f"| {one.name} | {one.ours:,.0f} | {one.peer:,.0f} | {one.ratio:.2f} | {one.bar or ''} "
            f"| {one.processor_ratio:.2f} | {one.peer_uses} | {one.spread:.2f} |"
        )
    print(f"\n{CORES} cores, medians of {arguments.rounds} rounds, {time.monotonic() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    return 0 if all(one.ratio >= (one.bar or 0) for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
