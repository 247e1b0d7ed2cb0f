"""Planned against measured peak memory of our own worker with real DeepSpeed.

    python -m benchmarks.memory [--json FILE] [--only NUMBER ...]

Each point is a run of three steps with a checkpoint, two validations and the writing of the model, in a forked process
(two for two ranks). One rank is measured at torch's CPU allocator, kernels' own temporaries included. Of two ranks
every storage an operation returns is counted until it dies: gloo's threads free tensors where the allocator's profiler
does not look. On CUDA, where there is one, it is torch.cuda.max_memory_allocated.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import traceback
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lifecycle.data.layout import Concatenated, Segments
from lifecycle.data.packing import Cuts, Index, RowWriter
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.host import resident
from lifecycle.model.machine import Device
from lifecycle.model.memory import moments
from lifecycle.model.zero import ZeroConfig
from lifecycle.stages.pretrain import PretrainConfig, PretrainJob, Steps, memory_run
from lifecycle.workers import pretrain as worker
from lifecycle.workers.job import Recorder

SAID = "never below; at most 1.10 at the median and 1.25 at worst"


@dataclass(frozen=True)
class Point:
    """One run of the grid; `vocab` and `tokens` come with the shards, as in the product."""

    family: str = "llama"
    layers: int = 2
    width: int = 128
    vocab: int = 512
    tokens: int = 64
    rows: int = 4
    zero: int = 1
    ranks: int = 1
    accumulation: int = 1
    checkpointing: bool = False
    precision: str = "bf16"
    attention: str = "eager"
    tied: bool = True
    bucket: int = 100_000
    apart: bool = True
    offload: str = ""

    def model(self) -> ModelConfig | Gpt2Config:
        heads = max(1, self.width // 64)
        if self.family == "gpt2":
            return Gpt2Config(hidden_size=self.width, layers=self.layers, heads=heads)
        return ModelConfig(
            hidden_size=self.width,
            layers=self.layers,
            heads=heads,
            kv_heads=1 if heads % 2 else heads // 2,
            intermediate_size=self.width * 8 // 3 // 16 * 16,
            tie_embeddings=self.tied,
        )

    def config(self) -> PretrainConfig:
        return PretrainConfig(
            model=self.model(),
            horizon=Steps(steps=3),
            batch_rows=self.rows * self.accumulation * self.ranks,
            micro_batch_rows=self.rows,
            warmup_steps=1,
            zero=ZeroConfig(
                stage=self.zero,
                bucket_elements=self.bucket,
                offload_optimizer=bool(self.offload),
                offload_parameters=self.offload == "all",
            ),
            precision=self.precision,
            attention=self.attention,
            cross_document_attention="blocked" if self.apart else "allowed",
            fused=False,  # the plan is of the network that GPUs compute; on a CPU ours keeps less (test_fused)
            activation_checkpointing=self.checkpointing,
            ranks=self.ranks,
            threads=1,
            save_every_steps=2,
            validate_every_steps=2,
            loader_threads=0,
        )


def grid() -> list[Point]:
    """Every ZeRO stage and both checkpointing choices, over shapes in which each part is the largest once."""
    shapes: list[dict[str, Any]] = [
        {"rows": 1, "tokens": 16},  # weights, gradients and optimizer
        {"rows": 8, "tokens": 128, "vocab": 256},  # activations
        {"rows": 2, "tokens": 256, "vocab": 256, "layers": 1},  # attention
        {"rows": 2, "vocab": 8192, "tied": False, "attention": "sdpa"},  # logits
        {"rows": 2, "vocab": 4096, "accumulation": 2, "precision": "fp32"},
        {"rows": 4, "layers": 6, "width": 64, "tokens": 128, "precision": "fp32", "attention": "sdpa"},
        {"rows": 2, "width": 320, "tokens": 96, "attention": "sdpa", "bucket": 4_000_000},
    ]
    points = [
        Point(zero=zero, checkpointing=checkpointing, **shape)
        for shape in shapes
        for zero in range(4)
        for checkpointing in (False, True)
    ]
    two: list[dict[str, Any]] = [
        {"rows": 1, "tokens": 32, "width": 320, "vocab": 1024, "attention": "sdpa"},
        {"rows": 4, "tokens": 128, "width": 128, "accumulation": 2},
        {"rows": 2, "tokens": 64, "width": 320, "vocab": 2048, "tied": False, "precision": "fp32", "accumulation": 2},
    ]
    points += [Point(zero=zero, ranks=2, **shape) for shape in two for zero in range(4)]
    gpt2: list[dict[str, Any]] = [
        {"rows": 8, "vocab": 256},
        {"attention": "sdpa", "vocab": 4096, "checkpointing": True},
    ]
    allowed: list[dict[str, Any]] = [
        {"rows": 8, "tokens": 128, "vocab": 256},
        {"rows": 4, "tokens": 256, "vocab": 256, "attention": "sdpa"},
    ]
    points += [
        Point(zero=zero, apart=apart, **shape) for shape in allowed for zero in (1, 3) for apart in (False, True)
    ]
    points += [Point("gpt2", 3, zero=zero, **shape) for shape in gpt2 for zero in (1, 3)]
    wide: dict[str, Any] = {"rows": 1, "tokens": 16, "width": 320}
    offloaded = ((1, "optimizer", 1), (2, "optimizer", 1), (2, "optimizer", 2), (3, "optimizer", 1), (3, "all", 1))
    return points + [Point(zero=stage, offload=what, accumulation=times, **wide) for stage, what, times in offloaded]


class Storages(TorchDispatchMode):
    """Counts the bytes of every storage an operation returns, from its birth to its death, whoever held it last."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or not size:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


@contextmanager
def metered(ranks: int) -> Iterator[dict[str, int]]:
    """Fills in the peak of the block, in bytes."""
    found: dict[str, int] = {}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        yield found
        found["bytes"] = torch.cuda.max_memory_allocated()
    elif ranks > 1:
        with Storages() as storages:
            yield found
        found["bytes"] = storages.peak
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield found
        events = profiler.profiler.kineto_results.events()
        changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
        found["bytes"] = int(np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])]).max())


def write_shards(folder: Path, point: Point) -> None:
    """Random rows of two documents each: memory does not depend on what they say."""
    folder.mkdir()
    draw, shards = np.random.default_rng(0), []
    for name, count in (("train.bin", point.rows * point.accumulation * point.ranks), ("validation.bin", 4)):
        ids = draw.integers(2, point.vocab, count * point.tokens).astype(np.uint16)
        writer = RowWriter(folder, iter([name]), Concatenated(point.tokens, "uint16"), rows_per_shard=count)
        lengths = np.full(2 * count, point.tokens // 2)
        writer.write(Segments.whole(ids, lengths, np.arange(2 * count)))
        shards.append(writer.close())
    index = Index(
        max_seq_len=point.tokens,
        dtype="uint16",
        packing="concatenate",
        pad_id=1,
        shards=shards[0],
        validation=shards[1][0],
        tokens_by_source={},
        padding_tokens=0,
        tail_tokens=0,
        validation_tail_tokens=0,
        cuts=Cuts.model_validate(dict.fromkeys(Cuts.model_fields, 0)),
    )
    (folder / "index.json").write_text(index.model_dump_json())


def run_rank(point: Point, folder: Path, rank: int) -> None:
    """Train in this process and leave the peak in a file."""
    logging.disable(logging.WARNING)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(point.ranks), LOCAL_RANK=str(rank))
    # One rank has nothing to send: a group that does nothing lets tensors die in the thread that is metered.
    store = dist.FileStore(str(folder / "store"), point.ranks) if point.ranks > 1 else FakeStore()
    backend = "gloo" if point.ranks > 1 else "fake"
    dist.init_process_group(backend, store=store, rank=rank, world_size=point.ranks)
    job = PretrainJob(
        out_dir=folder,
        scratch_dir=folder / "scratch",
        config=point.config(),
        shards_dir=folder / "shards",
        shards_digest="d" * 64,
        max_seq_len=point.tokens,
        vocab_size=point.vocab,
        bos_id=0,
        pad_id=1,
        stop_id=2,
    )
    with metered(point.ranks) as found:
        worker.train(job, Recorder(folder))
    (folder / f"peak-{rank}").write_text(str(found["bytes"]))


def measure(point: Point) -> int:
    """The largest peak of the ranks, in bytes. Each is a fork of this process, so torch is imported once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder / "shards", point)
        children = []
        for rank in range(point.ranks):
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                code = 1
                try:
                    run_rank(point, folder, rank)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                os._exit(code)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        if any(codes):
            raise SystemExit(f"the run of {point} failed")
        return max(int((folder / f"peak-{rank}").read_text()) for rank in range(point.ranks))


def plan(point: Point) -> tuple[int, str]:
    """The planned bytes and the moment. Of what is offloaded both plans together: here host and device are one."""
    device: Device = "cuda" if point.offload else "cpu"
    run = memory_run(point.config(), max_seq_len=point.tokens, vocab_size=point.vocab, device=device)
    offloaded = resident(run, place=int)  # nothing is pinned here, and at the start it is not there yet
    return max((one.total + (0 if one.name == "start" else offloaded), one.name) for one in moments(run))


def measured_rows(points: list[Point]) -> Iterator[dict[str, Any]]:
    for point in points:
        planned, moment = plan(point)
        found = measure(point)
        row = {"planned": planned, "measured": found, "ratio": planned / found, "moment": moment}
        yield {**asdict(point), **row}


def main() -> int:
    """Print the grid, and whether the plan holds its bars; 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write one JSON object a row to this file")
    parser.add_argument("--only", type=int, nargs="*", help="measure these points of the grid alone, by their number")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    points = grid() if options.only is None else [grid()[number] for number in options.only]
    columns = ("family", "layers", "width", "vocab", "tokens", "rows", "zero", "ranks", "accumulation")
    print("| " + " | ".join((*columns, "other", "planned MB", "measured MB", "ratio", "largest at")) + " |")
    print("|" + "---|" * (len(columns) + 5))
    rows = []
    for row in measured_rows(points):
        rows.append(row)
        other = (
            [row["precision"], row["attention"]]
            + ["checkpointing"] * row["checkpointing"]
            + ["allowed"] * (not row["apart"])
            + [f"offloaded: {row['offload']}"] * bool(row["offload"])
        )
        sizes = (f"{row['planned'] / 1e6:.2f}", f"{row['measured'] / 1e6:.2f}", f"{row['ratio']:.3f}", row["moment"])
        print("| " + " | ".join((*(str(row[c]) for c in columns), ", ".join(other), *sizes)) + " |", flush=True)
    ratios = sorted(row["ratio"] for row in rows)
    holds = ratios[0] >= 1 and statistics.median(ratios) <= 1.10 and ratios[-1] <= 1.25
    print(f"\n{len(rows)} points: planned / measured {ratios[0]:.3f} at least, {statistics.median(ratios):.3f} at the ")
    print(f"median, {ratios[-1]:.3f} at most. Bar: {SAID}: {'held' if holds else 'NOT HELD'}.")
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
