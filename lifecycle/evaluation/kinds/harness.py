"""A task of lm-evaluation-harness: any it ships by name, or a local YAML file, asked with our chat protocol.

The harness turns rows into requests once, when suites are collected, and scores the answers. Between the two our own
engine asks: batched, resumable, with the model's stop token, and with a reason for what could not be measured.
"""

import math
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle.data.jsonl import Row, load_rows
from lifecycle.evaluation import harness_grading
from lifecycle.evaluation.harness_task import task_files
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Measure, Prompt, Reply, Suite, add, collected
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import sha256_file

WORKER = "lifecycle.workers.harness"
LIKELIHOOD, BITS = "log_likelihood", "bits_per_byte"
SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")


class Sealed(BaseModel):
    """What grading needs of the tasks that were collected."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tasks: dict[str, dict[str, Any]] = Field(description="By name: its settings; of one that ships: nothing.")
    first: dict[str, dict[str, Any]] = Field(description="The first row of each: its fields tell how a task is read.")
    left_out: dict[str, tuple[str, ...]] = Field(description="Metrics that are not the mean of a number per item.")


class Collected(BaseModel):
    """What the worker brings back."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rows: Path
    sealed: Sealed


class HarnessSuite(Suite):
    """One task, or group of tasks, of lm-evaluation-harness."""

    kind: Literal["harness"] = "harness"
    task: str = Field(description="Its name in the harness.")
    path: Path | None = Field(  # type: ignore[assignment]
        None, description="A local task file (YAML); None: a task that ships with the harness."
    )
    chat: bool = Field(True, description="Ask with the model's chat template; False: plain text, for base models.")
    num_fewshot: int | None = Field(None, ge=0, description="Examples before each item; None: as the task says.")
    fewshot_seed: int = Field(1234, description="Chooses them; 1234 is the harness's own.")
    max_new_tokens: int | None = Field(None, ge=1, description="Of an answer; None: as the task says.")
    system: str | None = Field(None, description="A system turn before every item.")
    harness_version: str = Field(default_factory=lambda: installed_version(), description="What collected and scores.")
    files: tuple[Path, ...] = Field((), description="What the task file names; filled in from it.")
    sealed: Sealed | None = Field(None, description="Filled in when the suite is collected.")

    @model_validator(mode="before")
    @classmethod
    def _name_files(cls, said: Any) -> Any:
        """The bytes of every file a task is made of belong to its identity."""
        if isinstance(said, dict) and Path(said.get("path") or "").suffix in (".yaml", ".yml"):
            return {**said, "files": [str(file) for file in task_files(Path(said["path"]))]}  # JSON knows no Path
        return said

    def rows(self) -> list[Row]:
        return self._collect()[0]

    def sealed_into(self, folder: Path) -> dict[str, Any]:
        settings = self.model_dump(mode="json", exclude={"path", "files"})
        return settings | {"sealed": self._collect()[1].model_dump(mode="json")}

    def fault_of(self, row: Row) -> str | None:
        return None

    def stored(self, row: Row) -> Row:
        return row

    def baselines(self, rows: Sequence[Row]) -> dict[str, float]:
        """Guessing, where every item has choices."""
        if not all(row["choices"] for row in rows):
            return {}
        return {"random_accuracy": round(math.fsum(1 / row["choices"] for row in rows) / len(rows), 6)}

    def asks(self, row: Row) -> list[Ask]:
        return [self._ask(request) for request in row["requests"]]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        said = [reply for (reply,) in replies]
        reason = next((reply.unmeasured for reply in said if reply.unmeasured), None)
        shown = said[0] if len(said) == 1 else _joined(said)
        if reason:
            return [self.ungraded(row, shown, reason)]
        assert self.sealed is not None
        values = harness_grading.grades(self._how(), row, [_response(reply) for reply in said])
        grades = {name: value for name, value in values.items() if name != harness_grading.BYTES}
        first = next(iter(grades))
        return [self.item(row, shown, score=first, grades=grades, bytes=_whole(values.get(harness_grading.BYTES)))]

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        """Each metric of the task; an item without grades counts as unmeasured in all of them."""
        names = list(dict.fromkeys(name for item in items for name in item.grades))
        return {name: _measure(name, items) for name in names}

    def _ask(self, request: dict[str, Any]) -> Ask:
        prompt: Prompt = request["prompt"]
        if "continuation" in request:
            return Likelihood(prompt, request["continuation"])
        return Generate(
            prompt,
            samples=0,
            max_new_tokens=self.max_new_tokens or request["max_new_tokens"],
            stop=tuple(request["stop"]),
        )

    def _how(self) -> harness_grading.How:
        sealed = self.sealed.model_dump_json() if self.sealed else ""
        return harness_grading.How(version=self.harness_version, sealed=sealed)

    def _collect(self) -> tuple[list[Row], Sealed]:
        digests = tuple(sha256_file(file) for file in (self.path, *self.files) if file is not None)
        return _collected(self.model_dump_json(), digests)


class HarnessJob(Job):
    """What `lifecycle.workers.harness` is handed."""

    suite: HarnessSuite


@cache  # asked for twice: once when a run is checked before it starts, once when it collects
def _collected(suite: str, digests: tuple[str, ...]) -> tuple[list[Row], Sealed]:
    """The rows of a suite, in a process of its own: lm-evaluation-harness imports torch, which stages do not."""
    with tempfile.TemporaryDirectory() as folder:
        job = HarnessJob(out_dir=Path(folder), scratch_dir=Path(folder), suite=HarnessSuite.model_validate_json(suite))
        found = run_worker(WORKER, job, Collected, threads=1)
        return list(load_rows(found.rows)), found.sealed


def installed_version() -> str:
    """The version of lm-evaluation-harness here, or '' where it is not installed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return ""


def _joined(said: Sequence[Reply]) -> Reply:
    """Several continuations as one reply: the text is the most probable one's."""
    best = max(said, key=lambda reply: -math.inf if reply.log_probability is None else reply.log_probability)
    digest = harness_grading.digest_of([reply.prompt_digest for reply in said])
    return Reply("likelihood", digest, text=best.text, log_probability=best.log_probability, tokens=best.tokens)


def _response(reply: Reply) -> tuple[float, bool] | str:
    """As the harness's own models answer."""
    if reply.mode != "likelihood":
        return reply.text
    assert reply.log_probability is not None
    return reply.log_probability, reply.most_likely


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _measure(name: str, items: Sequence[Item]) -> Measure:
    """Which kind of number a metric of the harness is. Filters follow its name behind a colon."""
    base = name.partition(":")[0]
    if base == BITS:
        measure = Measure("rate", bounds=None, higher_is_better=False)
        for item in items:
            bits = None if item.grades.get(name) is None else -(item.log_probability or 0.0) / math.log(2)
            add(measure, item, bits, weight=item.bytes or 0)
        return measure
    if base in SHARES:
        return collected("share", items, name)
    return collected("mean", items, name, bounds=None)
