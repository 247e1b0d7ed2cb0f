"""Tensors on a CPU as compiled loops take them, and the loops on as many threads as torch has."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def array(tensor: Tensor) -> NDArray[Any]:
    """The same memory, as numpy has it: bf16 as uint16. What does not lie in one piece is copied."""
    tensor = tensor.detach().contiguous()
    found: NDArray[Any] = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found


def arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    """The same of each."""
    return [array(tensor) for tensor in tensors]


def share_out(kernel: Callable[..., None], count: int, *given: Any) -> None:
    """Have `kernel` work on all of its first axis, which is `count` long: in one call, or in one of each thread."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*given, 0, count)
        return
    cuts = [count * thread // threads for thread in range(threads + 1)]
    list(_pool(threads).map(lambda begin, end: kernel(*given, begin, end), cuts, cuts[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "kernels")
