"""Jobs of the workers that learn from comparisons, one after the other: `many_jobs.py FILE [STEP]`, a job a line.

With a step, each is done by a process of its own that is killed when it is about to save after that step.
"""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lifecycle.stages.online import OnlineJob
from lifecycle.stages.preference import PreferenceJob
from lifecycle.stages.reward import RewardJob
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.compared import ComparedJob
from lifecycle.workers import online, preference, reward
from lifecycle.workers.job import Recorder

TRAIN: dict[type[ComparedJob], Any] = {
    PreferenceJob: preference.train,
    RewardJob: reward.train,
    OnlineJob: online.train,
}
KINDS = {kind.__name__: kind for kind in TRAIN}


def train(job: ComparedJob) -> None:
    TRAIN[type(job)](job, Recorder(job.out_dir / "log"))


def write(file: Path, jobs: Iterable[ComparedJob]) -> None:
    file.write_text("".join(f"{type(job).__name__} {job.model_dump_json()}\n" for job in jobs))


def read(file: Path) -> list[ComparedJob]:
    lines = (line.partition(" ") for line in file.read_text().splitlines())
    return [KINDS[kind].model_validate_json(told) for kind, _, told in lines]


def main(file: Path, killed_after: int | None) -> None:
    torch.set_num_threads(1)
    for job in read(file):
        if killed_after is None:
            train(job)
        elif (child := os.fork()) == 0:
            die_when_saving(killed_after)
            train(job)
        else:
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, job.out_dir


def die_when_saving(step: int) -> None:
    save = Checkpoints.save

    def dying(self: Checkpoints, engine: Any, at: int, state: Any) -> Path:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return save(self, engine, at, state)

    Checkpoints.save = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
    sys.stdout.flush()
    os._exit(0)  # without DeepSpeed's farewell, which waits for the other ranks
