"""The environment of a worker's processes. Made on the node where they run, from that node's own."""

import os
from collections.abc import Mapping

PLACE_AMONG_RANKS = frozenset(
    ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
)


def worker_environment(threads: int) -> Mapping[str, str]:
    """The environment a worker runs in: this process's own, and `worker_settings`.

    What places a process among ranks stays behind: whoever starts us under torchrun or a scheduler means himself.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in PLACE_AMONG_RANKS}
    return {**inherited, **worker_settings(threads)}


def worker_settings(threads: int) -> Mapping[str, str]:
    """What every worker is told, wherever it runs: offline, no telemetry, threads capped."""
    return {
        "OMP_NUM_THREADS": str(threads),
        # A thread that waits for another one sleeps. By default it spins: on a busy machine the one it waits for then
        # gets no core (DPO, 2 threads, beside four other processes: 78 s before the first step, with this 10 s).
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        # glibc hands each freed tensor back to the kernel and faults it in again: keeping it saves 15-25 % of a step.
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
