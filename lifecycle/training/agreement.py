"""What ranks do so that all of them know the same afterwards, also when it failed on one."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from lifecycle.errors import LifecycleError

T = TypeVar("T")


def together(work: Callable[[], T]) -> list[T]:
    """What every rank gets from its own `work`; the first error of any rank is raised on all of them."""
    mine: T | Exception
    try:
        mine = work()
    except (OSError, LifecycleError) as error:
        mine = error
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, mine)
    for found in everybody:
        if isinstance(found, Exception):
            raise found
    return everybody


def on_first(work: Callable[[], T]) -> T:
    """What rank 0 gets from `work`, on every rank: one looks or writes, so that all see the same."""
    return together(lambda: work() if dist.get_rank() == 0 else None)[0]  # type: ignore[return-value]
