"""Time and memory of near-duplicate search as the input grows: `python -m benchmarks.scale [--json FILE]`.

The input is synthetic in its order, real in its words: each text is 14 runs of ten words of the shipped text, one of
five is another text with one or two runs replaced. Every size has a process of its own, so that its peak is its own.
"""

import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from benchmarks.sizes import print_sizes
from lifecycle.data.jsonl import load_rows, read_lines
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.near_duplicates import declared_bytes, near_duplicates
from lifecycle.spread import spreading_over

T = TypeVar("T")
R = TypeVar("R")

PACK = Path(__file__).parent.parent / "lifecycle" / "recipes" / "pack" / "corpus"
SIZES = (10_000, 100_000, 1_000_000)
SHARD_DOCUMENTS = 50_000
BYTES_PER_TASK = 64 * 2**20
RUNS_PER_TEXT, WORDS_PER_RUN = 14, 10


def write_shards(folder: Path, documents: int) -> list[Path]:
    """JSON Lines files of SHARD_DOCUMENTS each."""
    paths = sorted(PACK.glob("*.jsonl.gz"))
    words = [word for path in paths for line in read_lines(path) if line.row for word in line.row["text"].split()]
    pool = [" ".join(words[i : i + WORDS_PER_RUN]) for i in range(0, len(words), WORDS_PER_RUN)]
    draw = random.Random(documents)
    paths, earlier = list[Path](), draw.choices(pool, k=RUNS_PER_TEXT)
    for first in range(0, documents, SHARD_DOCUMENTS):
        paths.append(folder / f"{first}.jsonl")
        with paths[-1].open("wb") as file:
            for number in range(first, min(first + SHARD_DOCUMENTS, documents)):
                if number % 5 == 4:
                    runs = list(earlier)
                    for _ in range(1 + number % 2):
                        runs[draw.randrange(RUNS_PER_TEXT)] = draw.choice(pool)
                else:
                    runs = draw.choices(pool, k=RUNS_PER_TEXT)
                    earlier = runs if draw.random() < 0.1 else earlier
                row = {"id": str(number), "text": " ".join(runs)}
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return paths


def texts_of(path: Path) -> Iterator[str]:
    """The texts of one shard."""
    return (row["text"] for row in load_rows(path))


class Watch:
    """An engine of one thread that notes how long each step takes."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def open(self) -> int:
        return 1

    def compute(self, work: Callable[[T], R], task: T, *, name: str) -> R:
        start = time.process_time()
        result = work(task)
        self.seconds[work.func.__name__] += time.process_time() - start  # type: ignore[attr-defined]
        return result

    def close(self) -> None:
        pass


def measure(documents: int) -> dict[str, Any]:
    """One search, in this process."""
    rule, watch = NearDuplicates(), Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        near_duplicates([lambda: ["load the compiled loops"] * 3], rule, scratch=folder / "warm")
        # In another process: memory that this one had and gave back would hide what the search takes.
        with ProcessPoolExecutor(1, get_context("spawn")) as writer:
            paths = writer.submit(write_shards, folder, documents).result()
        start_bytes, start = resident_bytes(), time.process_time()
        reset_peak()
        shards = [partial(texts_of, path) for path in paths]
        with spreading_over(watch):
            found = near_duplicates(shards, rule, scratch=folder / "s", bytes_per_task=BYTES_PER_TASK)
        seconds = time.process_time() - start
        scratch = sum(path.stat().st_size for path in (folder / "s").rglob("*") if path.is_file())
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
    return {
        "documents": documents,
        "megabytes": megabytes,
        "cpu_seconds": seconds,
        "megabytes_per_cpu_second": megabytes / seconds,
        "cpu_seconds_by_step": {**watch.seconds, "merge_and_join": seconds - sum(watch.seconds.values())},
        "peak_bytes": peak_bytes() - start_bytes,
        "declared_bytes": declared_bytes(documents, BYTES_PER_TASK),
        "scratch_bytes_per_document": scratch / documents,
        "dropped": int((found.cluster != np.arange(documents)).sum()),
        **{name: value for name, value in found._asdict().items() if name != "cluster"},
    }


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Memory of this process now, mapped pages of files included."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most it had since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Linux forgets the peak on request; what writing the input took is not the search's."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Print one line a size, and the same as JSON where asked."""
    print_sizes(measure, "benchmarks.scale", SIZES, str(__doc__))


if __name__ == "__main__":
    main()
