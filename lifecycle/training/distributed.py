"""DeepSpeed imported quickly, its process group started, and nothing compiled on the way."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from lifecycle.training.shared_memory import SharedMean

# Longer than the patience of the hang watch (`launch.Launch`), which shows every rank's stacks before it ends them.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make `import module` fail inside the block, as if it were not installed. It must be one the importer can miss."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say "not there"
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def _setting(variable: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the block."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


# Left to itself DeepSpeed probes ten vendors' packages.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
# Its autotuner tries `import mlflow`, which brings pandas, fastapi and 1.9 s of the 2.2 s of the whole import.
with _hidden("mlflow"):
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

# Every optimizer makes DeepSpeed import Muon, whose `@torch.compile` brings all of torch's compiler: 1.9 s of CPU.
with _setting("TORCHDYNAMO_DISABLE", "1"):
    import deepspeed.runtime.zero.muon.muon_optimizer

# On a CPU the process group compiles an op in shared memory (30 s, a compiler, and a lock file that hangs every later
# start if the build was killed). gloo does the same work; this is the table the op is looked up in
# (deepspeed/comm/torch.py, build_shm_op).
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def start_process_group() -> None:
    """Join the ranks `torch.distributed.run` started, or be the only one: nccl where cuda is, else gloo."""
    backend = deepspeed.accelerator.get_accelerator().communication_backend_name()
    if not dist.is_initialized():
        if "RANK" in os.environ:
            dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
        else:
            store = dist.HashStore()  # type: ignore[attr-defined]  # torch does not export its own name
            dist.init_process_group(backend, store=store, rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")  # deepspeed asks for it, also of the only rank
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)


def device() -> torch.device:
    """Where this rank computes."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def start_engine(model: torch.nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> Any:
    """A DeepSpeed engine that trains `model` as `settings` say (`ZeroConfig.deepspeed`)."""
    if settings["zero_optimization"]["stage"] == 3:
        _cut(model, settings)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    if engine.fp16_enabled():
        engine.optimizer.loss_scaler.raise_error_at_min_scale = False  # the loop ends the run, and says in which step
    if engine.zero_optimization_stage() == 0:
        engine.clip_fp32_gradients = lambda: _clip_and_remember(engine)
        if device().type == "cpu":
            _share_gradients(engine)
    # What libraries made stays. Looking through their 670,000 objects took 350 ms, every 50 steps of the tiny model.
    gc.collect()
    gc.freeze()
    return engine


def _cut(model: torch.nn.Module, settings: dict[str, Any]) -> None:
    """Leave each rank its part of every tensor of rank 0: no device, and no other rank, ever holds the whole model.

    DeepSpeed would move the whole to every device first, and cut it there. A tensor on torch's meta device, where
    nothing is stored, gets a place for just as long.
    """
    here, number = device(), torch.float16 if "fp16" in settings else torch.float32
    first: Any = None
    for tensor in list(model.parameters()):
        if tensor.is_meta:
            place = torch.nn.Parameter(torch.empty(tensor.shape, device=here, dtype=number))
            torch.utils.swap_tensors(tensor, place)  # type: ignore[no-untyped-call]
        else:
            tensor.data = tensor.data.to(here, number)
        if first is None:
            deepspeed.zero.Init(module=torch.nn.ParameterList([tensor]), config_dict_or_path=settings)
            first = tensor
        else:
            first.convert_to_zero_parameters(param_list=[tensor])
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            placed = torch.empty_like(buffer, device=here) if buffer.is_meta else buffer.to(here)
            dist.broadcast(placed, 0)
            module._buffers[name] = placed


def loss_scale_after_overflow(engine: Any) -> float | None:
    """The loss scale after a step in fp16 that every rank skipped, because a gradient overflowed; else None."""
    if not engine.fp16_enabled() or engine.was_step_applied():
        return None
    return float(engine.optimizer.loss_scaler.cur_scale)


def _share_gradients(engine: Any) -> None:
    """Let ranks on one machine take the mean of their gradients in shared memory: gloo needs twice the time."""
    trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    shared = SharedMean.between_ranks(sum(parameter.numel() for parameter in trained))
    if shared is not None:
        engine.buffered_allreduce_fallback = lambda **_: shared.take([parameter.grad for parameter in trained])


def _clip_and_remember(engine: Any) -> None:
    """Without ZeRO DeepSpeed clips and forgets the norm: `get_global_grad_norm` would say None in every step.

    Gradients that are short enough stay as they are; DeepSpeed would read and write them all, to multiply by one.
    """
    parameters = [parameter for parameter in engine.module.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    if not norm <= engine.gradient_clipping():
        torch.nn.utils.clip_grads_with_norm_(parameters, engine.gradient_clipping(), norm)
    engine._global_grad_norm = norm


def whole(model: torch.nn.Module, *, zero_stage: int) -> AbstractContextManager[Any]:
    """Inside the block every rank holds all of `model`'s parameters, also in ZeRO stage 3. A collective."""
    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        list(model.parameters()), enabled=zero_stage == 3
    )
    return gathered


def full_precision(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the optimizer steps, whole, where the network computes with rounded copies of it. A collective."""
    return {name: safe_get_full_fp32_param(tensor).cpu() for name, tensor in model.named_parameters()}
