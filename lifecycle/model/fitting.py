"""Which ways of running a training fit a device, which of them is fastest, and a refusal of what cannot fit.

How fast is a model of time, not a measurement: matrix products at the stated share of the peak, launching kernels, and
messages that wait for one another (our settings overlap nothing). It orders plans; it promises no seconds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from lifecycle.errors import ConfigError
from lifecycle.model.compute import flops_of_run
from lifecycle.model.host import Host, must_fit_host
from lifecycle.model.machine import Device
from lifecycle.model.memory import OUTSIDE, peak
from lifecycle.model.states import PARTS, Moment, Run, States

GIB = 2**30
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    f"{letter}ib": 2 ** (10 * (index + 1)) for index, letter in enumerate("kmgt")
}


class Speeds(NamedTuple):
    """What the time of a step is estimated with."""

    flops: float = 0.45 * 989e12
    """Per rank and second: an H100 at 45 % of its peak."""
    bytes_per_second: float = 50e9
    """Into and out of a rank, to others: one 400 Gbit/s card a rank."""
    layer_seconds: float = 1e-3
    """The least a layer's forward and backward pass takes: about 150 kernels of 7 us to launch."""


RECOMPUTED = 4 / 3  # checkpointing runs every forward pass twice: 2 + 2 + 4 for 2 + 4


@dataclass(frozen=True)
class Option:
    """One way to run a training: what it needs at its worst moment, and the estimated seconds of an optimizer step."""

    run: Run
    peak: Moment
    seconds: float
    fits: bool
    host_lacks: int = 0
    """Bytes of host memory too many on a machine with GPUs."""

    @property
    def name(self) -> str:
        checkpointing = ", checkpointing" if self.run.checkpointing else ""
        return f"ZeRO {self.run.zero.stage}, {self.run.work.rows} rows at once{checkpointing}"


def size_of(text: str) -> int:
    """Bytes of a size like 80GiB or 80GB."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].lower() not in UNITS:
        raise ConfigError(f"expected a size of memory like 80GiB or 80GB, found {text!r}. Give a number and its unit.")
    size = int(float(found[1]) * UNITS[found[2].lower()])
    if size < 1:
        raise ConfigError(f"expected a size of memory above 0, found {text!r}. Give what there is, like 80GiB.")
    return size


def options(
    run: Run, *, available: int, device: Device = "cuda", speeds: Speeds | None = None, host: Host | None = None
) -> list[Option]:
    """Every ZeRO stage, checkpointing choice and size of micro batch of a training, the fastest that fits first.

    `host`: the machine whose memory ranks with GPUs share, where that is known.
    """
    found = [_option(one, available - OUTSIDE[device], speeds or Speeds(), host) for one in _variants(run)]
    return sorted(found, key=lambda option: (not option.fits, option.seconds, option.peak.total))


def must_fit(run: Run, *, available: int, device: Device, host: Host | None = None) -> None:
    """Raise ConfigError when a rank needs more memory than it has, with what is too large and what would fit; or its
    machine, where `host` is known.
    """
    needed, usable = peak(run), available - OUTSIDE[device]
    if needed.total <= usable:
        if host:
            must_fit_host(run, host)
        return
    largest = max(PARTS, key=lambda part: getattr(needed, part))
    fitting = [option for option in options(run, available=available, device=device, host=host) if option.fits]
    advice = (
        f"This would fit: {settings_of(fitting[0])}" if fitting else f"No setting of these would: {_more(run, device)}"
    )
    raise ConfigError(
        f"expected a rank to need at most {usable / GIB:.2f} GiB ({available / GIB:.2f} less "
        f"{OUTSIDE[device] / GIB:.1f} outside of the allocator), found {needed.total / GIB:.2f} GiB at the moment "
        f"{needed.name!r}, of which {getattr(needed, largest) / GIB:.2f} are {largest}. {advice}; "
        "`python -m lifecycle plan memory` shows all."
    )


def _more(run: Run, device: Device) -> str:
    """Where more memory could come from. Ranks on a CPU share one: each one more leaves the others less."""
    if device == "cuda":
        return "use more ranks, or GPUs with more memory"
    fewer = f"fewer ranks than {run.ranks}, which share this machine's memory, or " if run.ranks > 1 else ""
    return f"use {fewer}a machine with more memory, or a smaller model"


def settings_of(option: Option) -> str:
    """The settings that make an option, as `--set` takes them."""
    return (
        f"pretrain.zero.stage={option.run.zero.stage} pretrain.micro_batch_rows={option.run.work.rows} "
        f"pretrain.activation_checkpointing={str(option.run.checkpointing).lower()}"
    )


def _variants(run: Run) -> Iterator[Run]:
    rows = run.work.rows * run.accumulation  # of a rank, per step
    sizes = [size for size in range(1, rows + 1) if rows % size == 0]
    lowest = 3 if run.zero.offload_parameters else 1 if run.zero.offload_optimizer else 0  # what else is refused
    stages = [stage for stage in run.stages if stage >= lowest]
    for stage, checkpointing, size in product(stages, (False, True), sizes):
        yield replace(
            run,
            work=replace(run.work, rows=size, partitioned=stage == 3),
            zero=run.zero.model_copy(update={"stage": stage}),
            accumulation=rows // size,
            checkpointing=checkpointing,
        )


def _option(run: Run, usable: int, speeds: Speeds, host: Host | None) -> Option:
    needed, lacks = peak(run), host.lacks(run) if host else 0
    return Option(run, needed, _seconds(run, speeds), fits=needed.total <= usable and not lacks, host_lacks=lacks)


def _seconds(run: Run, speeds: Speeds) -> float:
    work, states = run.work, States(run)
    again = RECOMPUTED if run.checkpointing else 1.0
    row = flops_of_run(work.model, vocab_size=run.vocab_size, max_seq_len=work.tokens + 1, tokens=work.tokens)
    micro_batch = max(work.rows * row * again / speeds.flops, work.model.layers * speeds.layer_seconds * again)
    return run.accumulation * micro_batch + _message_bytes(run, states.parameters) / speeds.bytes_per_second


def _message_bytes(run: Run, weights: int) -> float:
    """Bytes a rank sends in a step; a ring's all-reduce is two passes, a gather or a scatter one."""
    if run.ranks == 1:
        return 0.0
    match run.zero.stage:
        case 0:
            passes = 2
        case 1:
            passes = 2 + 1  # DeepSpeed all-reduces buckets that more than one rank owns, then gathers the weights
        case 2:
            passes = 2 * run.accumulation + 1
        case _:
            passes = (2 + 1) * run.accumulation  # weights for forward and backward, gradients scattered
    return passes * weights * (run.ranks - 1) / run.ranks
