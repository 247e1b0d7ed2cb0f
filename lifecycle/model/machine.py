"""How much memory a rank has on this machine, asked without torch."""

import os
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
ASK_SECONDS = 20
Device = Literal["cpu", "cuda"]


class Memory(NamedTuple):
    """Bytes a rank may use, and of what."""

    bytes: int
    device: Device


def memory_of_a_rank(ranks: int) -> Memory:
    """The smallest GPU's memory where there is one, else this machine's, or its container's, shared out."""
    gpus = _gpus()
    if gpus:
        return Memory(min(gpus), "cuda")
    return Memory(host_memory() // ranks, "cpu")


def host_memory() -> int:
    """This machine's memory in bytes, or its container's."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits()])


def _gpus() -> list[int]:
    """Memory of each NVIDIA GPU here in bytes; none where all are hidden or the driver's tool is missing or fails."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * 2**20 for line in said.split() if line.isdecimal()]


def _limits() -> list[int]:
    """What a container may use, where it says a number."""
    said = [Path(path).read_text().strip() for path in CGROUP_LIMITS if Path(path).is_file()]
    return [int(text) for text in said if text.isdecimal()]
