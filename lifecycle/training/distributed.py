"""DeepSpeed imported quickly, its process group started, and nothing compiled on the way."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(minutes=10)


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
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

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
            os.environ.setdefault("LOCAL_RANK", "0")
            store = dist.HashStore()  # type: ignore[attr-defined]  # torch does not export its own name
            dist.init_process_group(backend, store=store, rank=0, world_size=1)
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)


def device() -> torch.device:
    """Where this rank computes."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


# What DeepSpeed writes into a checkpoint besides tensors and plain Python data.
IN_CHECKPOINTS = [fragment_address, LossScaler, ZeroStageEnum]


@contextmanager
def only_tensors() -> Iterator[None]:
    """Inside the block a checkpoint may hold tensors, plain data and DeepSpeed's three small classes, and runs no code.

    DeepSpeed loads with `weights_only=False`, which runs what a file says; torch lets the environment overrule it.
    """
    with _setting("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1"), torch.serialization.safe_globals(IN_CHECKPOINTS):
        yield


def start_engine(model: torch.nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> Any:
    """A DeepSpeed engine that trains `model` as `settings` say (`ZeroConfig.deepspeed`)."""
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    if engine.zero_optimization_stage() == 0:
        engine.clip_fp32_gradients = lambda: _clip_and_remember(engine)
    return engine


def _clip_and_remember(engine: Any) -> None:
    """Without ZeRO DeepSpeed clips and forgets the norm: `get_global_grad_norm` would say None in every step."""
    engine._global_grad_norm = torch.nn.utils.clip_grad_norm_(engine.module.parameters(), engine.gradient_clipping())


def whole(model: torch.nn.Module, *, zero_stage: int) -> AbstractContextManager[Any]:
    """Inside the block every rank holds all of `model`'s parameters, also in ZeRO stage 3. A collective."""
    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        list(model.parameters()), enabled=zero_stage == 3
    )
    return gathered
