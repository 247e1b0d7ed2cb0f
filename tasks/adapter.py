"""Between a Prefect task and a stage: reuse what is sealed, show progress, record what came out."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import Task, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from lifecycle import progress
from lifecycle.artifacts import summary
from lifecycle.errors import Preempted, WorkerFailed
from lifecycle.launchers import admission
from lifecycle.progress import Progress
from lifecycle.report.key_numbers import key_number
from lifecycle.sealing import Artifact, StageConfig
from lifecycle.spread import spreading_over
from lifecycle.store import Made
from tasks import budget, canary
from tasks.accelerators import PrefectSlots
from tasks.session import Session
from tasks.spread import engine_of

A = TypeVar("A", bound=Artifact)
P = ParamSpec("P")
R = TypeVar("R")

PROGRESS_SECONDS = 2.0  # an update costs one request, 10-20 ms: under 1 % of the stage's own thread


def stage_task(*, retries: int = 0) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task around one stage. The store does the caching; Prefect keeps no results: no second truth."""
    return task(
        retries=retries,
        retry_delay_seconds=5,
        retry_condition_fn=_is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )


def run_stage(
    session: Session, stage: Callable[..., A], config: StageConfig, *inputs: Artifact | None, label: str | None = None
) -> A:
    """The stage's artifact, found or made, shown and recorded. `label` tells two uses of a stage in one run apart."""
    name, started = label or config.stage, time.time()
    session.display.stage_begins(name)
    watching, asking = (
        budget.watching_stage(session, config.stage, name),
        admission.asking(PrefectSlots(session.run.name)),
    )
    with watching, asking, progress.listening(_Relay(session, name)), spreading_over(engine_of(session, name)):
        made = session.store.make(stage, config, *inputs, on_drift=session.on_drift(config.stage))
    record = session.run.add(made, label=label)
    number = key_number(record.kind, made.artifact.facts())
    session.display.stage_ends(name, reused=made.reused, seconds=made.seconds, number=number, notes=made.notes)
    session.tracker.record(
        "stage",
        run=session.run.name,
        stage=name,
        path=record.path,
        reused=made.reused,
        started=started,
        seconds=made.seconds,
    )
    _publish(name, made, number)
    canary.hold(session, name, made.artifact, inputs)
    return made.artifact


class _Relay:
    """Passes a stage's progress on to the display, and now and then to Prefect."""

    def __init__(self, session: Session, stage: str) -> None:
        self._display = session.display
        self._stage = stage
        self._artifact: UUID | None = None
        self._next = time.monotonic() + PROGRESS_SECONDS  # a stage shorter than this needs no bar

    def __call__(self, at: Progress) -> None:
        self._display.progressed(at)
        if time.monotonic() < self._next:
            return
        with suppress(Exception):  # a bar that cannot be drawn must not stop what it shows
            text = f"{at.done:,.0f} of {at.total:,.0f} {at.unit} {at.note}"
            if self._artifact is None:
                key = _key(self._stage, "progress")
                self._artifact = cast("UUID", create_progress_artifact(100 * at.share, key=key, description=text))
            else:
                update_progress_artifact(self._artifact, 100 * at.share, description=text)
        self._next = time.monotonic() + PROGRESS_SECONDS


def _publish(name: str, made: Made[Any], number: str) -> None:
    """A table of what came out, in the Prefect UI."""
    logger = get_run_logger()
    logger.info("%s %s: %s", "reused" if made.reused else f"made in {made.seconds:.1f} s", name, number)
    for note in made.notes:
        logger.warning("%s", note)
    facts = {**summary(made.artifact), "digest": made.artifact.digest[:12], "path": str(made.artifact.path)}
    with suppress(Exception):  # the record is the store's manifest; this is its picture
        create_table_artifact(
            [{"fact": key, "value": str(value)} for key, value in facts.items()], key=_key(name), description=number
        )


def _key(*parts: str) -> str:
    return "-".join(parts).replace("_", "-").lower()


HOPELESS = ("OutOfMemory", "out of memory", "MemoryError", "allocate memory", "Not started again")
"""Of workers that died: the same configuration would end in the same way, or the node that watched them says so."""


def _is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: a worker died without saying why. Contracts and a full memory stay as they are."""
    error = state.data
    died = isinstance(error, WorkerFailed) and not isinstance(error, Preempted)
    return died and not any(words in str(error) for words in HOPELESS)
