"""What all tasks of one run share: what was asked for, the store, the record, the tracker and the display."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lifecycle import recipes
from lifecycle.errors import ConfigError, LifecycleError, Preempted, PromotionBlocked
from lifecycle.recipes import LifecycleConfig
from lifecycle.report.live import Display, expected_seconds
from lifecycle.runs import Run, State, all_runs
from lifecycle.store import OnDrift, Store
from tasks.outbox import Tracker, TrackingStatus

FLUSH_SECONDS, LAST_FLUSH_SECONDS = 10.0, 1.0  # what MLflow has not got then, the next run sends
STOPPED = "told to stop. The same request goes on from what is sealed and from the last checkpoint"
EngineName = Literal["here", "threads", "processes", "dask"]


def _text_of_path(given: object) -> object:
    return str(given) if isinstance(given, Path) else given


def _in_this_order(schema: dict[str, Any]) -> None:
    """Number the fields: Prefect's form shows them by `position`, and its database forgets their order."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


def _own_first(schema: dict[str, Any]) -> None:
    """The same, with what a request asks for itself before what every request has."""
    fields = schema["properties"]
    own = [name for name in fields if name not in Request.model_fields]
    for position, name in enumerate([*own, *Request.model_fields]):
        fields[name]["position"] = position


class Request(BaseModel):
    """What to make: a recipe, how it is to be changed, and where."""

    # Also the form behind Run in the Prefect UI, which shows the line above. What may be left out is an empty text or
    # 0: the form turns an optional value into a choice of types.
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_in_this_order)

    recipe: str = Field("tiny", title="Recipe", description="A recipe's name, or a file of yours: my_recipes.py:name.")
    settings: list[str] = Field([], title="Settings", description="Changes to the recipe, each stage.key=value.")
    rebuild: list[str] = Field([], title="Rebuild", description="Stages to make again when their code has changed.")
    accept_drift: list[str] = Field(
        [], title="Accept drift", description="Stages whose artifact is kept although their code has changed; recorded."
    )
    store: Annotated[str, BeforeValidator(_text_of_path)] = Field(
        "", title="Store", description="Folder that holds every artifact and record; LIFECYCLE_STORE when empty."
    )
    run: str = Field(
        "",
        title="Run",
        pattern="^([A-Za-z0-9][A-Za-z0-9_-]*)?$",
        description="Its name; made from the time when empty.",
    )
    canary: bool = Field(
        False,
        title="Canary",
        description="Hold what every stage makes against the ranges the recipe expects; stop red at the first outside.",
    )
    budget_hours: float = Field(
        0,
        ge=0,
        title="Budget in hours",
        description="An alarm goes off when the run takes longer; 0: at three times what its stages usually take.",
    )
    # How it runs: none of these is part of any artifact's identity.
    engine: EngineName = Field("here", title="Engine", description="Where the shards of a stage are worked on.")
    workers: int = Field(
        0, ge=0, title="Workers", description="Threads or processes, 0 for one a core; dask: how many to wait for."
    )
    cluster: str = Field("", title="Cluster", description="Engine dask: the address of its scheduler, tcp://host:8786.")

    @model_validator(mode="after")
    def _engine_fits(self) -> "Request":
        if (self.engine == "dask") != bool(self.cluster):
            raise ValueError(
                f"expected the address of a scheduler with engine dask, and only there, found engine {self.engine!r} "
                f"and cluster {self.cluster!r}. Give both (--engine dask --cluster tcp://host:8786), or neither"
            )
        if self.engine == "here" and self.workers:
            raise ValueError(f"expected an engine for {self.workers} workers, found 'here'. Use --engine processes")
        return self


class PromotionRequest(Request):
    """Which release to make live, and why."""

    model_config = ConfigDict(json_schema_extra=_own_first)

    release: str = Field(..., title="Release", min_length=4, description="How its digest begins, or `previous`.")
    reason: str = Field(..., title="Reason", min_length=3, max_length=500, description="Why; kept in the ledger.")
    expected: str = Field(
        "",
        title="Expected champion",
        pattern="^(.{4,})?$",
        description="How the digest of what you see live begins; refused when something else is live by now.",
    )
    approver: str = Field(
        "",
        title="Approver",
        pattern=r"^([^\x00-\x1f\x7f]{2,100})?$",
        description="Who says that it may go live; kept in the ledger. Required where the gate asks for approval.",
    )
    decision: str = Field(
        "",
        title="Decision",
        pattern="^([0-9a-f]{8,64}([^0-9a-f].*)?)?$",
        description="The gate's, as you saw it; refused when the release stands on another one.",
    )


class AblationRequest(Request):
    """Which two runs to compare. Recipe and settings are those of the runs."""

    good: str = Field(..., title="Good run", description="Its name, or how it begins.")
    bad: str = Field(..., title="Bad run", description="Its name, or how it begins.")
    metrics: list[str] = Field([], title="Metrics", description="What to explain; empty: what the bad run's gate saw.")


class DiagnosisRequest(BaseModel):
    """Which run to look at, and what it is held against. Nothing is trained, and nothing is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_in_this_order)

    run: str = Field("last", title="Run", min_length=1, description="Its name, how it begins, or `last`.")
    against: str = Field("", title="Against", description="A run that did better, to see what differs; may be empty.")
    measure: bool = Field(
        False, title="Measure", description="First ask the checkpoints what the evaluation did not: bounded, on record."
    )
    items: int = Field(120, ge=30, le=1000, title="Items", description="Of each suite, where Measure asks.")
    store: Annotated[str, BeforeValidator(_text_of_path)] = Field(
        "", title="Store", description="Folder that holds every artifact and record; LIFECYCLE_STORE when empty."
    )


class Session:
    """One run at work."""

    def __init__(self, request: Request, flow: str, plan: Sequence[str]) -> None:
        self.request = request
        self.recipe: LifecycleConfig = checked_recipe(request)
        self.store = store_of(request)
        self.run = Run.start(
            self.store, flow=flow, recipe=request.recipe, settings=request.settings, name=request.run or None
        )
        plan = [stage for stage in plan if stage in self.recipe.stages]
        self.expected_seconds = expected_seconds(self.store, plan, self.recipe.typical_seconds)
        self.display = Display(plan, self.expected_seconds)
        self.tracker = Tracker(self.store, self.recipe.model_name)
        self.state: State = "COMPLETED"
        self.message = ""

    def on_drift(self, stage: str) -> OnDrift:
        """What was asked for a stage whose code has changed since its artifact was sealed."""
        if stage in self.request.rebuild:
            return "rebuild"
        return "accept" if stage in self.request.accept_drift else "stop"

    def conclude(self, state: State, message: str) -> None:
        """How the run will end, unless something fails before."""
        self.state, self.message = state, message


@contextmanager
def working_on(request: Request, flow: str, plan: Sequence[str]) -> Iterator[Session]:
    """A session for the length of a flow: whatever happens inside, the record says how it ended."""
    from tasks import budget, explanation, run_page  # Prefect, which `flows.cli` imports after it has a server for it

    session = Session(request, flow, plan)
    record = session.run.record
    _close_crashed(session)
    session.tracker.record(
        "run",
        run=record.run,
        flow=flow,
        recipe=record.recipe,
        settings=" ".join(record.settings),
        started=record.started,
    )
    session.tracker.start()
    try:
        with session.display, budget.watching_run(session):
            run_page.name_run(session)
            yield session
    except BaseException as error:
        session.conclude(_state_after(error), str(error) if isinstance(error, Exception) else STOPPED)
        raise
    finally:
        session.run.end(session.state, session.message)
        told_to_stop = session.state in ("CANCELLED", "PREEMPTED")
        if not told_to_stop:  # whoever takes the machine away does not wait
            explanation.explain(session)
        session.tracker.record("aliases")
        session.tracker.record("end", run=record.run, state=session.state, message=session.message, ended=time.time())
        _tell_of_waiting(session, session.tracker.flush(LAST_FLUSH_SECONDS if told_to_stop else FLUSH_SECONDS))
        for sentence in session.tracker.moved:
            session.display.say(sentence)
        if not told_to_stop:
            run_page.sum_up(session)


def store_of(request: Request | DiagnosisRequest) -> Store:
    """The store a request names, or the one of the environment."""
    return Store(Path(request.store or default_store()))


def default_store() -> Path:
    """LIFECYCLE_STORE, or `.lifecycle` in the working directory."""
    return Path(os.environ.get("LIFECYCLE_STORE") or ".lifecycle")


def checked_recipe(request: Request) -> LifecycleConfig:
    """The recipe a request names, with its settings; refuses stages that do not exist."""
    config = recipes.load(request.recipe, request.settings)
    known = config.stages
    for name in (*request.rebuild, *request.accept_drift):
        if name not in known:
            raise ConfigError(
                f"--rebuild or --accept-drift {name!r}: no stage has this name. Stages: {', '.join(sorted(known))}."
            )
    if request.canary and not config.expected:
        raise ConfigError(
            f"expected ranges to hold a canary against, found none in recipe {request.recipe!r}. Give it `expected`, "
            "as the tiny recipe has, or start the run without --canary."
        )
    return config


def _state_after(error: BaseException) -> State:
    if isinstance(error, Preempted):
        return "PREEMPTED"
    if isinstance(error, PromotionBlocked):
        return "BLOCKED"
    if isinstance(error, LifecycleError | Exception):
        return "FAILED"
    from tasks.run_page import is_cancelling  # Prefect: see `working_on`

    # Not an Exception: Ctrl-C, or the signal by which an orchestrator cancels a run or takes the machine away.
    return "CANCELLED" if isinstance(error, KeyboardInterrupt) or is_cancelling() else "PREEMPTED"


def _close_crashed(session: Session) -> None:
    """Runs whose process died cannot say so: without this they would stay RUNNING in the tracker."""
    for run in all_runs(session.store):
        if run.record.state == "RUNNING" and run.state == "CRASHED":
            crashed = run.declare_crashed()
            session.tracker.record(
                "end", run=run.name, state=crashed.state, message=crashed.message, ended=crashed.ended
            )


def _tell_of_waiting(session: Session, status: TrackingStatus) -> None:
    if status.waiting:
        session.display.say(
            f"tracking: {status.waiting} events wait for MLflow at {status.uri} ({status.problem or 'slow'}); "
            "they are kept and the next run sends them"
        )
