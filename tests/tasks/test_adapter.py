"""What is tried again: a worker that died without saying why. What would fail in the same way is not."""

import pytest
from prefect.states import Failed

from lifecycle.errors import LifecycleError, Preempted, WorkerFailed, WorkerLost
from tasks import pretrain


def classes(above: type[LifecycleError] = LifecycleError) -> list[type[LifecycleError]]:
    """Those of `lifecycle.errors`; what other modules make of them is one of these, too."""
    found = [name for below in above.__subclasses__() for name in classes(below)]
    return [above, *(kind for kind in found if kind.__module__ == LifecycleError.__module__)]


def is_tried_again(error: BaseException) -> bool:
    condition = pretrain.pretrain.retry_condition_fn
    assert condition is not None
    return bool(condition(pretrain.pretrain, None, Failed(data=error)))


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_only_a_worker_that_died_or_was_lost_is_tried_again(kind):
    assert is_tried_again(kind("ended with exit code 137 and no result")) == (kind in (WorkerFailed, WorkerLost))


@pytest.mark.parametrize(
    "said",
    [
        "expected the job to fit into memory, found OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "expected the job to fit into memory, found MemoryError: . Make it smaller, or use more ranks.",
        "worker ended with exit code 1 and no result. Its log ends:\n    torch.OutOfMemoryError: CUDA out of memory",
        "worker ended with exit code 1 and no result. Its log ends:\n    RuntimeError: DefaultCPUAllocator: "
        "can't allocate memory: you tried to allocate 8 bytes",
        "the job: it died. Not started again: it got no further than before, so it would fail again",
    ],
)
def test_what_would_fail_again_with_the_same_configuration_is_not_tried_again(said):
    assert not is_tried_again(WorkerFailed(said))


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("disk full"), KeyboardInterrupt(), Preempted("saved")])
def test_what_is_no_workers_death_is_not_tried_again(error):
    assert not is_tried_again(error)
