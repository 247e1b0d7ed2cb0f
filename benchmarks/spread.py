"""What a shard costs beside its own work, on every engine: `python -m benchmarks.spread [--json FILE]`.

Shards that do nothing, in a real flow, with a Prefect task run each as in every run of ours and without; for the
cluster of two worker processes the peer is prefect-dask, which sends the task run itself to the worker.
"""

import argparse
import operator
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import orjson

from flows import server

SHARDS, ROUNDS = 40, 5
nothing = operator.index  # a shard without work, which workers can import


def timed(run: Callable[[], list[int]]) -> tuple[float, float]:
    """Milliseconds a shard by the clock and of the flow's process, medians of ROUNDS after one to warm up."""
    rounds = []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        assert run() == list(range(SHARDS))
        rounds.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return 1000 * wall / SHARDS, 1000 * cpu / SHARDS


def measure(address: str, folder: Path) -> list[dict[str, Any]]:
    """One row an engine; inside a flow."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.context import serialize_context
    from prefect_dask import DaskTaskRunner

    from lifecycle.engines import Processes, Threads
    from lifecycle.spread import Here, spread, spreading_over
    from tasks.cluster import Cluster, House, in_the_same_house, versions
    from tasks.spread import PrefectRuns

    engines: dict[str, Callable[[], Any]] = {
        "here": Here,
        "threads": lambda: Threads(2),
        "processes": lambda: Processes(2),
        "dask": lambda: Cluster(address, shared=folder, workers=2),
    }
    rows = []
    for name, make in engines.items():
        row: dict[str, Any] = {"name": name, "unit": "ms a shard", "n": ROUNDS}
        for kind in ("", "_without_prefect"):
            inner = make()
            with spreading_over(inner if kind else PrefectRuns(inner, "benchmark")):
                wall, cpu = timed(lambda: spread(nothing, range(SHARDS), unit="shards"))
            row |= {f"ours{kind}": wall, f"ours{kind}_cpu": cpu}
        rows.append(row)
    theirs = task(cache_policy=NO_CACHE, persist_result=False)(lambda number: nothing(number))
    with DaskTaskRunner(address=address) as runner:

        def run() -> list[int]:
            futures = [runner.submit(theirs, {"number": number}) for number in range(SHARDS)]
            return [future.result() for future in futures]

        wall, cpu = timed(run)
    message = cloudpickle.dumps((in_the_same_house, House(folder / "probe", versions(nothing)), nothing, 0))
    context = cloudpickle.dumps(serialize_context())
    password = os.environ["PREFECT_API_AUTH_STRING"].encode()
    rows[-1] |= {
        "peer": wall,
        "peer_cpu": cpu,
        "ratio": wall / rows[-1]["ours"],
        "bytes": len(message),
        "peer_context_bytes": len(context),
        "password_travels": password in message,
        "peer_password_travels": password in context,
    }
    return rows


def main() -> None:
    """Print one line an engine, and the same as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write one JSON object an engine to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        temporary = server.prepare(Path(name))
        from distributed import LocalCluster
        from prefect import flow

        if temporary:
            temporary.wait()
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster:  # type: ignore[no-untyped-call]
            rows = flow(name="benchmark-spread", persist_result=False)(measure)(cluster.scheduler_address, Path(name))
    for row in rows:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    if arguments.json:
        arguments.json.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))


if __name__ == "__main__":
    main()
