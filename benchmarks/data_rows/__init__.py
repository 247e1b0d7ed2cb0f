"""One module a step of the data stage, each with `rows(corpus_dir) -> list[Row]`, which first proves both agree."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One comparison. Speeds are per second of CPU time, so that they hold on a busy machine and for any cores."""

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    n: int
    spread: str
    at_least: float


def compare(
    name: str, ours: Callable[[], object], peer: Callable[[], object], *, megabytes: float, at_least: float
) -> Row:
    """Ours and the peer in turn, REPEATS times each after one warm-up of ours; medians, and the range of the ratio."""
    ours()
    pairs = [(megabytes / _cpu_seconds(ours), megabytes / _cpu_seconds(peer)) for _ in range(REPEATS)]
    ratios = sorted(a / b for a, b in pairs)
    return Row(
        name=name,
        ours=statistics.median(a for a, _ in pairs),
        peer=statistics.median(b for _, b in pairs),
        ratio=statistics.median(ratios),
        unit="MB/s of CPU time",
        n=REPEATS,
        spread=f"{ratios[0]:.1f}-{ratios[-1]:.1f}",
        at_least=at_least,
    )


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
