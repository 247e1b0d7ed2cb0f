"""The record of a run: which recipe, which stages, what came out. One small JSON file a stage, written atomically.

A run holds a lock while its process lives. A run that says RUNNING and whose lock is free has crashed: the kernel
frees the lock however the process died, so nothing has to be cleaned up for the record to be right.
"""

import fcntl
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.errors import InputError, StoreError
from lifecycle.sealing import write_atomically
from lifecycle.store import Made, Store

State = Literal[
    "RUNNING",
    "RELEASED",
    "AWAITING_APPROVAL",
    "BLOCKED",
    "INCONCLUSIVE",
    "FAILED",
    "COMPLETED",
    "PREEMPTED",
    "CANCELLED",
    "CRASHED",
]


class StageRecord(BaseModel):
    """One stage of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    order: int
    stage: str
    kind: str
    path: str
    digest: str
    reused: bool
    seconds: float
    notes: list[str] = Field(default_factory=list)


class RunRecord(BaseModel):
    """One run, without its stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    flow: str
    recipe: str
    settings: list[str]
    started: float
    ended: float | None = None
    state: State = "RUNNING"
    message: str = ""


class Run:
    """A run being recorded, or one read back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._alive: IO[bytes] | None = None

    @classmethod
    def start(cls, store: Store, *, flow: str, recipe: str, settings: list[str], name: str | None = None) -> "Run":
        run = cls(store.root / "runs" / (name or new_name()))
        run.folder.mkdir(parents=True, exist_ok=True)  # it exists when an orchestrator retries a run under its name
        run._alive = (run.folder / "alive.lock").open("wb")
        fcntl.flock(run._alive, fcntl.LOCK_EX)
        run._write(RunRecord(run=run.name, flow=flow, recipe=recipe, settings=settings, started=time.time()))
        return run

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def page(self) -> Path:
        """Where the page about this run lies, once it is drawn."""
        return self.folder / "report.html"

    @property
    def evaluation_page(self) -> Path:
        """Where the page about this run's evaluation lies, once it is drawn."""
        return self.folder / "evaluation.html"

    @property
    def data_card(self) -> Path:
        """Where the page about this run's corpus lies, once it is drawn."""
        return self.folder / "data_card.html"

    @property
    def record(self) -> RunRecord:
        try:
            return RunRecord.model_validate_json((self.folder / "run.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{self.folder}: no readable run.json ({error}). Remove the folder or restore it."
            ) from error

    @property
    def state(self) -> State:
        """What the record says, corrected when the process that wrote it is gone."""
        state = self.record.state
        return "CRASHED" if state == "RUNNING" and not self._is_alive() else state

    @property
    def stages(self) -> list[StageRecord]:
        try:
            records = [StageRecord.model_validate_json(p.read_bytes()) for p in self.folder.glob("*.stage.json")]
        except (OSError, ValidationError) as error:
            raise StoreError(f"{self.folder}: unreadable stage record ({error}). Remove or restore it.") from error
        return sorted(records, key=lambda record: record.order)

    def add(self, made: Made[Any], *, label: str | None = None) -> StageRecord:
        """Record that this run has this artifact; `label` tells two uses of one stage apart."""
        artifact = made.artifact
        record = StageRecord(
            order=len(list(self.folder.glob("*.stage.json"))),
            stage=label or artifact.manifest.stage,
            kind=type(artifact).__name__,
            path=str(artifact.path),
            digest=artifact.digest,
            reused=made.reused,
            seconds=round(made.seconds, 3),
            notes=made.notes,
        )
        write_atomically(self.folder / f"{record.stage}.stage.json", record.model_dump_json(indent=1).encode())
        return record

    def end(self, state: State, message: str = "") -> None:
        self._write(self.record.model_copy(update={"state": state, "message": message, "ended": time.time()}))
        if self._alive is not None:
            self._alive.close()
            self._alive = None

    def declare_crashed(self) -> RunRecord:
        """Write down what `state` found out: it ended when it last left a trace."""
        last = max(path.stat().st_mtime for path in self.folder.glob("*.json"))  # a report may be drawn later
        record = self.record.model_copy(update={"state": "CRASHED", "message": "its process died", "ended": last})
        self._write(record)
        return record

    def _is_alive(self) -> bool:
        try:
            with (self.folder / "alive.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _write(self, record: RunRecord) -> None:
        write_atomically(self.folder / "run.json", record.model_dump_json(indent=1).encode())


def new_name() -> str:
    """A name that sorts by time and collides with no other: 20261123-061423-a1b2c3."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def all_runs(store: Store) -> Iterator[Run]:
    """Every run of the store, newest first."""
    for folder in sorted((store.root / "runs").glob("*/run.json"), reverse=True):
        yield Run(folder.parent)


def find_run(store: Store, name: str) -> Run:
    """The run with this name, or the only one that begins so, or the `last`."""
    runs = list(all_runs(store))
    found = runs[:1] if name == "last" else [run for run in runs if run.name.startswith(name)]
    if len(found) != 1:
        known = ", ".join(run.name for run in runs[:5]) or "none"
        raise InputError(f"expected one run {name!r}, found {len(found)}. The newest runs: {known}.")
    return found[0]
