"""Rows of lm-evaluation-harness tasks as requests: `-m lifecycle.workers.harness <job folder>`."""

import logging
import resource
from typing import Any

from lifecycle.data.jsonl import Row, write_rows
from lifecycle.errors import InputError
from lifecycle.evaluation import harness
from lifecycle.evaluation.harness_task import read_task, task_rows
from lifecycle.evaluation.kinds.harness import Collected, HarnessJob, HarnessSuite, Sealed
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder

MEMORY = 32 * 2**30  # of address space: a template can grow a text without bound


def collect(job: HarnessJob, recorder: Recorder) -> Collected:
    """Write every row of the suite's task, or of each task of its group, to `out_dir`."""
    suite = job.suite
    tasks, said = _tasks(suite)
    rows: list[Row] = []
    for name, task in tasks.items():
        found = harness.requests(
            task, chat=suite.chat, num_fewshot=suite.num_fewshot, seed=suite.fewshot_seed, system=suite.system
        )
        rows += [row | ({"slice": name, "id": f"{name}/{row['id']}"} if len(tasks) > 1 else {}) for row in found]
        recorder.progress(len(rows), len(rows), "items", name)
    path = job.out_dir / "rows.jsonl"
    write_rows(path, rows)
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["task"], row["doc"])
    left_out = {name: harness.left_out(task) for name, task in tasks.items()}
    return Collected(rows=path, sealed=Sealed(tasks=said, first=first, left_out=left_out))


def _tasks(suite: HarnessSuite) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The tasks, and of those that do not ship what their files say."""
    if suite.path is None:
        tasks = harness.shipped_tasks(suite.task)
        return tasks, {name: {} for name in tasks}
    said = read_task(suite.path)
    if said["task"] != suite.task:
        raise InputError(
            f"{suite.path}: expected the task {suite.task!r}, found {said['task']!r}. Correct one of them."
        )
    return {suite.task: harness.local_task(said, task_rows(suite.path))}, {suite.task: said}


def main() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    doorway.run(HarnessJob, collect)


if __name__ == "__main__":
    main()
