"""Time and memory of the whole corpus stage as the input grows: `python -m benchmarks.corpus_scale [--json FILE]`.

Every step is on. The input is that of benchmarks/scale.py, a process for each size; one core, and no engine. Loading
compiled loops is part of the time, compiling them is not if this ran before.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.data_rows.whole_chain import EVERYTHING, STEPS, Clock, held_out
from benchmarks.scale import BYTES_PER_TASK, SIZES, peak_bytes, reset_peak, resident_bytes, write_shards
from benchmarks.sizes import print_sizes
from lifecycle.data.documents import Source
from lifecycle.stages.corpus import CorpusConfig, build_corpus


def measure(documents: int) -> dict[str, Any]:
    """One corpus, in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, out = folder / "rows", folder / "out"
        rows.mkdir()
        out.mkdir()
        suites = held_out(folder)
        # In another process: memory that this one had and gave back would hide what the stage takes.
        with ProcessPoolExecutor(1, get_context("spawn")) as writer:
            paths = writer.submit(write_shards, rows, documents).result()
        start_bytes, start = resident_bytes(), time.process_time()
        reset_peak()
        with Clock().on(STEPS) as clock:
            corpus = build_corpus(_config(rows), suites, out_dir=out)
        seconds = time.process_time() - start
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
    return {
        "documents": documents,
        "megabytes": megabytes,
        "cpu_seconds": seconds,
        "megabytes_per_cpu_second": megabytes / seconds,
        "cpu_seconds_by_step": dict(clock.seconds),
        "start_bytes": start_bytes,
        "peak_bytes": peak_bytes() - start_bytes,
        "kept": corpus.train_documents + corpus.validation_documents,
        "dropped": corpus.sources["rows"].dropped,
    }


def _config(path: Path) -> CorpusConfig:
    return CorpusConfig(
        sources=(Source(name="rows", path=path, licence="mixed", id_field="id"),),
        bytes_per_task=BYTES_PER_TASK,
        **EVERYTHING,
    )


def main() -> None:
    """Print one line a size, and the same as JSON where asked."""
    print_sizes(measure, "benchmarks.corpus_scale", SIZES, str(__doc__))


if __name__ == "__main__":
    main()
