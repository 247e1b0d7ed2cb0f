"""Grades of the answers to an lm-evaluation-harness task, by its own filters and metrics, under a time limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from typing import Any

import orjson

from lifecycle.data.jsonl import Row
from lifecycle.errors import ContractError, InputError
from lifecycle.evaluation.harness import (
    left_out,
    library,
    rows_instead_of_download,
    sandboxed_templates,
    task_of,
    time_limit,
)

BYTES = "bytes"
GRADE_SECONDS = 10

Response = tuple[float, bool] | str


@dataclass(frozen=True)
class How:
    """What grading depends on: the harness's version, and the tasks as they were sealed (JSON)."""

    version: str
    sealed: str


def grades(how: How, row: Row, responses: Sequence[Response]) -> dict[str, float]:
    """Metric -> number for one row, by the harness's filters and metrics; a filter's name follows a colon."""
    task = _sealed_tasks(how)[row["task"]]
    instances = [
        library("api.instance").Instance("loglikelihood", row["doc"], (), index, metadata=(row["task"], 0, 1))
        for index in range(len(responses))
    ]
    rolling = task.OUTPUT_TYPE == "loglikelihood_rolling"  # there the harness has a number alone
    for instance, response in zip(instances, responses, strict=True):
        instance.resps = [response[0] if rolling else response] * max(1, task.get_config("repeats") or 1)
    found: dict[str, float] = {}
    skipped = left_out(task)
    with sandboxed_templates(), time_limit(GRADE_SECONDS, task.task_name):
        for steps in task._filters:
            steps.apply(instances)
        for name in instances[0].filtered_resps:
            results = task.process_results(row["doc"], [instance.filtered_resps[name] for instance in instances])
            for metric, value in results.items():
                if metric not in skipped:
                    found |= _number(metric if name == "none" else f"{metric}:{name}", metric, value)
    if not found:
        raise InputError(f"{row['task']}: expected a metric with a number for each item, found {sorted(skipped)}.")
    return found


def digest_of(parts: Sequence[str]) -> str:
    return sha256("".join(parts).encode()).hexdigest()[:16]


@cache
def _sealed_tasks(how: How) -> dict[str, Any]:
    """The tasks as they were collected, each with its first row alone."""
    found = import_module("importlib.metadata").version("lm_eval")
    if found != how.version:
        raise ContractError(
            f"expected lm-evaluation-harness {how.version}, with which the suite was collected, found {found}. "
            "Install that version, or collect the suites again."
        )
    sealed = orjson.loads(how.sealed)
    rows = {name: [doc] for name, doc in sealed["first"].items()}
    with sandboxed_templates(), rows_instead_of_download(rows, done=True):
        shipped = [name for name, said in sealed["tasks"].items() if not said]
        tasks: dict[str, Any] = library("tasks").TaskManager().load(shipped)["tasks"] if shipped else {}
        return tasks | {name: task_of(said) for name, said in sealed["tasks"].items() if said}


def _number(name: str, metric: str, value: Any) -> dict[str, float]:
    """A metric's value for one item; what it is called says what it is."""
    if metric == "bits_per_byte":
        return {name: -value[0] / math.log(2) / value[1], BYTES: float(value[1])}
    if metric == "perplexity":
        return {name.replace("perplexity", "log_likelihood", 1): float(value)}
    if isinstance(value, tuple | list | dict | str):
        return {}
    return {name: float(value)}
