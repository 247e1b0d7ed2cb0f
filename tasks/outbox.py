"""What happened goes to a durable outbox first, and from there to MLflow.

An event is a small JSON file under `<store>/tracking/outbox/`, written by rename. A thread replays the files in order
and removes each once MLflow has it; a step looks for what an interrupted replay left, so nothing is written twice.
When MLflow does not answer the events stay, one warning says so, and the next run replays them.
"""

import itertools
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lifecycle import sealing
from lifecycle.artifacts import Release
from lifecycle.errors import PromotionConflict, TrackingUnavailable
from lifecycle.store import Store
from tasks.tracking import MlflowRecords, Refused, one_line

EventKind = Literal["run", "stage", "report", "end", "aliases"]
RETRY_SECONDS = 15.0

log = logging.getLogger("lifecycle.tracking")
_sequence = itertools.count()


@dataclass(frozen=True)
class TrackingStatus:
    """Where the records are: the server or file, how many events it has not taken yet, and why."""

    uri: str
    waiting: int
    problem: str | None


class Tracker:
    """Sends what a run records to MLflow, in the background and at most a moment late."""

    def __init__(self, store: Store, model_name: str) -> None:
        self.store = store
        self.model_name = model_name
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root / 'mlflow.db'}"
        self.outbox = store.root / "tracking" / "outbox"
        self.outbox.mkdir(parents=True, exist_ok=True)
        self.problem: str | None = None
        self._client: MlflowRecords | None = None
        self._using_client = threading.Lock()
        self._wake = threading.Event()
        self._attempts = 0
        self._thread: threading.Thread | None = None

    @property
    def moved(self) -> list[str]:
        """What this run found moved by hand, each alias in a sentence."""
        return [] if self._client is None else self._client.moved

    def page_of(self, run: str) -> str | None:
        """Where MLflow shows a run; None where it has no server or has not heard of the run."""
        return None if self._client is None else self._client.page_of(run, self.model_name)

    def start(self) -> None:
        """Begin to import mlflow and replay what earlier runs left (import 1-6 s, a new database 2-10 s)."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._replay_for_ever, name="tracking", daemon=True)
            self._thread.start()
            self._wake.set()

    def record(self, kind: EventKind, **event: Any) -> None:
        """Put one event into the outbox: from here on a crash or an outage delays it, but does not lose it."""
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_sequence):06d}.json"
        body = {"kind": kind, "model_name": self.model_name, **event}
        sealing.write_atomically(self.outbox / name, json.dumps(body).encode())
        self._wake.set()

    def register(self, release: Release, run: str) -> str:
        """The registry version that stands for `release`, made now if there is none; waits, and fails closed.

        Raises PromotionConflict when an alias was found moved by hand: somebody wants another release live.
        """
        try:
            with self._using_client:
                self._replay()
                with self.store.lock("tracking"):
                    self._mlflow().mirror_aliases(self.model_name)
                    version = self._mlflow().version_of(release.path, self.model_name, run)
        except Exception as error:  # whatever MLflow, its driver or the network raise: without a record, no promotion
            raise TrackingUnavailable(
                f"expected MLflow at {self.uri} to register release {release.digest[:12]}, found: {one_line(error)}. "
                "Nothing was promoted. Bring the tracking server back and run the same command again: stages are kept."
            ) from error
        if self.moved:
            raise PromotionConflict(
                f"{self.moved[-1]}. If this one should go live all the same, run the command again."
            )
        return version

    def flush(self, seconds: float) -> TrackingStatus:
        """Wait until MLflow has every event, or has just refused one, or the time is over."""
        deadline, attempts = time.monotonic() + seconds, self._attempts
        self._wake.set()
        while self._thread is not None and self._events() and time.monotonic() < deadline:
            if self.problem is not None and self._attempts > attempts:
                break
            time.sleep(0.02)
        return TrackingStatus(self.uri, len(self._events()), self.problem)

    def _replay_for_ever(self) -> None:
        while True:
            self._wake.wait(RETRY_SECONDS if self.problem else None)
            self._wake.clear()
            try:
                with self._using_client:
                    self._replay()
                self.problem = None
            except Exception as error:  # an outage must never end a training run
                if self.problem is None:
                    log.warning(
                        "MLflow at %s does not answer (%s). Its events are kept and sent later.",
                        self.uri,
                        one_line(error),
                    )
                self.problem = one_line(error)
            self._attempts += 1

    def _replay(self) -> None:
        """Give MLflow every event of the outbox, oldest first, one process at a time."""
        with self.store.lock("tracking"):
            for file in self._events():
                event = json.loads(file.read_bytes())
                try:
                    self._mlflow().apply(event)
                except Refused as error:  # waiting cannot help: put it aside, or it would hold up all that follow
                    log.warning(
                        "MLflow refused the record of %s: %s. It is kept in %s.", event["kind"], error, self._refused
                    )
                    self._refused.mkdir(exist_ok=True)
                    file.rename(self._refused / file.name)
                else:
                    file.unlink()

    @property
    def _refused(self) -> Path:
        return self.outbox.with_name("refused")

    def _mlflow(self) -> MlflowRecords:
        if self._client is None:
            self._client = MlflowRecords(self.uri, self.store)
        return self._client

    def _events(self) -> list[Path]:
        return sorted(self.outbox.glob("[0-9]*.json"))
