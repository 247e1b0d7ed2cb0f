"""Bytes of host memory that ranks with GPUs need, and so the machine they share. On a CPU the rank's plan is all of it.

Counted from what our worker and DeepSpeed allocate. What is offloaded is held to measured peaks on a CPU, where device
and host are one memory (`python -m benchmarks.memory`); pinned memory, starts and writing were not measured on a GPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle.errors import ConfigError
from lifecycle.model.activations import FP32
from lifecycle.model.states import Run, States

GIB = 2**30
OUTSIDE_OF_TENSORS = 2 * GIB
"""Of each rank: imports take 0.4 GiB (measured on a CPU), CUDA's libraries and rows read ahead are an allowance."""
WRITTEN_AT_ONCE = 50 * 10**9
"""transformers writes a model in files of this size, and has the tensors of one in host memory."""


class HostMoment(NamedTuple):
    """What is in host memory at one moment, in bytes."""

    name: str
    each: int
    """Of every rank."""
    first: int = 0
    """And of the first rank besides."""

    def of_node(self, ranks: int) -> int:
        """Of the first machine, which has the most."""
        return ranks * (self.each + OUTSIDE_OF_TENSORS) + self.first


@dataclass(frozen=True)
class Node:
    """What decides how much of a run is in the memory of one machine."""

    ranks: int
    adopted: bool = False
    """A base is trained further: every rank reads it whole."""
    fp16: bool = False


class Host(NamedTuple):
    """A machine with GPUs: who shares its memory, and how many bytes that is."""

    node: Node
    bytes: int

    def lacks(self, run: Run) -> int:
        """Bytes that a run needs and the machine has not; 0 where it fits."""
        return max(0, host_peak(run, self.node).of_node(self.node.ranks) - self.bytes)


def host_moments(run: Run, node: Node) -> list[HostMoment]:
    """What is in host memory at the moments that can be the largest, in the order of a run."""
    states = States(run)
    whole, kept = states.parameters, resident(run)
    moved = 0 if run.zero.offload_optimizer else 3 * states.share  # weights and two moments, to be written
    written = min(whole, WRITTEN_AT_ONCE)
    return [
        _start(states, node),
        HostMoment("train", kept),
        HostMoment("save a checkpoint", kept + moved),
        # fp16: every rank gathers the fp32 weights. Else the first has a copy of what it writes.
        HostMoment("write the model", kept + whole if node.fp16 else kept, 0 if node.fp16 else written),
    ]


def host_peak(run: Run, node: Node) -> HostMoment:
    """The moment a machine needs most."""
    return max(host_moments(run, node), key=lambda moment: moment.of_node(node.ranks))


def must_fit_host(run: Run, host: Host) -> None:
    """Raise ConfigError when the ranks of one machine together need more host memory than it has."""
    if not host.lacks(run):
        return
    node, available, needed = host.node, host.bytes, host_peak(run, host.node)
    total = needed.of_node(node.ranks)
    advice = (
        "Use fewer ranks on each machine (pretrain.ranks, launch.nodes)"
        if needed.name != "start" or run.zero.stage == 3
        else "Use ZeRO 3 (pretrain.zero.stage=3), where the first rank alone builds the model"
    )
    raise ConfigError(
        f"expected {node.ranks} ranks of one machine to need at most its {available / GIB:.1f} GiB of host memory, "
        f"found {total / GIB:.1f} GiB at the moment {needed.name!r}: {needed.each / GIB:.1f} of each rank and "
        f"{OUTSIDE_OF_TENSORS / GIB:.0f} outside of tensors, {needed.first / GIB:.1f} of the first besides. {advice}, "
        "offload less, or say what the machines have (pretrain.host_memory)."
    )


def pinned(size: int) -> int:
    """Bytes torch takes for `size` of pinned memory: the next power of two (CachingHostAllocator.h, `roundSize`)."""
    return 1 << (size - 1).bit_length() if size > 0 else 0


def resident(run: Run, *, place: Callable[[int], int] = pinned) -> int:
    """What is offloaded of one rank, from the first step on. `place`: the bytes torch takes for a pinned tensor."""
    states, zero = States(run), run.zero
    parts = sum(map(place, states.parts))
    total = 0
    if zero.offload_optimizer:
        total += 2 * states.share  # Adam's moments
        if zero.stage == 3:  # the copy to step on, its gradient, and the gradients of all tensors end to end
            total += states.share + parts + place(states.share)
        else:  # the copy to step on, its gradient, what is sent back, and the largest tensor
            total += 3 * parts + place(states.largest)
            # Between two micro batches every tensor that touches this rank's part waits in a pinned place of its own.
            rounded = max(place(FP32 * numbers) / (FP32 * numbers) for numbers in states.tensors)
            total += math.ceil(rounded * states.gradient_share) if run.accumulation > 1 else 0
    if zero.offload_parameters:  # all parts end to end; the places they were cut into stay with torch, for others
        total += parts + sum(place(FP32 * -(-numbers // run.ranks)) for numbers in states.tensors)
    return total


def _start(states: States, node: Node) -> HostMoment:
    """The network is built in fp32 in host memory and then moved: by each rank, or under ZeRO 3 by the first alone."""
    if states.run.zero.stage < 3 or node.adopted:
        return HostMoment("start", states.parameters + resident(states.run) * (states.run.zero.stage == 3))
    return HostMoment("start", resident(states.run), states.parameters)
