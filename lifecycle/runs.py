"""The record of a run: which recipe, which stages, what came out. One small JSON file a stage, written atomically."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.errors import StoreError
from lifecycle.sealing import write_atomically
from lifecycle.store import Made, Store

State = Literal["RUNNING", "RELEASED", "BLOCKED", "INCONCLUSIVE", "FAILED", "COMPLETED"]


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

    @classmethod
    def start(cls, store: Store, *, flow: str, recipe: str, settings: list[str]) -> "Run":
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
        run = cls(store.root / "runs" / name)
        run.folder.mkdir(parents=True)
        run._write(RunRecord(run=name, flow=flow, recipe=recipe, settings=settings, started=time.time()))
        return run

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def record(self) -> RunRecord:
        try:
            return RunRecord.model_validate_json((self.folder / "run.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{self.folder}: no readable run.json ({error}). Remove the folder or restore it."
            ) from error

    @property
    def stages(self) -> list[StageRecord]:
        records = [StageRecord.model_validate_json(p.read_bytes()) for p in self.folder.glob("*.stage.json")]
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

    def _write(self, record: RunRecord) -> None:
        write_atomically(self.folder / "run.json", record.model_dump_json(indent=1).encode())


def all_runs(store: Store) -> Iterator[Run]:
    """Every run of the store, newest first."""
    for folder in sorted((store.root / "runs").glob("*/run.json"), reverse=True):
        yield Run(folder.parent)
