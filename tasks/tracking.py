"""The only file that imports mlflow: how runs, stages, releases and aliases are written there, each of them once."""

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lifecycle import sealing
from lifecycle.artifacts import Release
from lifecycle.errors import DamagedArtifact, StoreError
from lifecycle.store import Store
from tasks import aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes in one call, and the longest parameter value it stores (mlflow.utils.validation, 3.17).
METRICS_PER_CALL, PARAMS_PER_CALL, PARAM_CHARACTERS = 1000, 100, 6000
# Reports and manifests are a few kB; weights, token rows and items are never sent: the store has them already.
TEXT_SUFFIXES, TEXT_BYTES = {".json", ".md", ".html", ".svg", ".txt", ".jinja"}, 200_000

# Read by mlflow when it is imported. A server that is down is noticed in seconds, not in the default minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def import_early() -> None:
    """Import mlflow beside other waiting: the first use then finds it ready."""
    threading.Thread(target=_import_mlflow, name="import-mlflow", daemon=True).start()


def _import_mlflow() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


class Refused(Exception):
    """MLflow answered, and the answer is that it will never take this."""


class MlflowRecords:
    """What is done to MLflow. Every method may be repeated: it finds what an earlier, interrupted call left."""

    def __init__(self, uri: str, store: Store) -> None:
        self.client: MlflowClient = _import_mlflow().MlflowClient(uri)
        self.uri = uri
        self.store = store
        self.is_local = not uri.startswith(("http:", "https:"))
        self.moved: list[str] = []
        """Aliases somebody moved by hand, each in a sentence, as they are found."""
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}

    def apply(self, event: Mapping[str, Any]) -> None:
        """Bring one event into MLflow."""
        from mlflow.exceptions import MlflowException

        try:
            match event["kind"]:
                case "run":
                    self._run(event)
                case "stage":
                    self._stage(event)
                case "report":
                    self._report(event)
                case "end":
                    self._end(event)
                case "aliases":
                    self.mirror_aliases(event["model_name"])
        except (
            DamagedArtifact,
            StoreError,
            KeyError,
            ValueError,
            TypeError,
        ) as error:  # the event, not the server, is at fault
            raise Refused(one_line(error)) from error
        except MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise Refused(one_line(error)) from error
            raise

    def version_of(self, release: Path, model_name: str, run: str) -> str:
        """The version whose tag names this release's digest, registered if it is new."""
        artifact = Release.load(release)
        if found := aliases.version_of(self.client, model_name, artifact.digest):
            return found
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_registered_model(model_name)
        except MlflowException:
            self.client.create_registered_model(model_name)
        run_id = self._run_id(model_name, run)
        # A server refuses paths of our machine as a source; there the version points at the run that holds its lineage.
        source = str(artifact.model_dir) if self.is_local else f"runs:/{run_id}/release"
        tags = {"lifecycle.release": artifact.digest, "lifecycle.checkpoint": artifact.checkpoint_digest}
        tags |= {"lifecycle.decision": artifact.decision_digest, "lifecycle.path": str(artifact.path)}
        return str(self.client.create_model_version(model_name, source, run_id, tags=tags).version)

    def page_of(self, run: str, model_name: str) -> str | None:
        """Where a person finds a run in MLflow; None where there is no server, or it has not heard of the run yet."""
        experiment, run_id = self._experiments.get(model_name), self._runs.get(run)
        if self.is_local or run_id is None:
            return None
        address = urlsplit(self.uri)
        host = address.netloc.rpartition("@")[2]  # without the password that may stand before it
        return f"{address.scheme}://{host}{address.path.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

    def mirror_aliases(self, model_name: str) -> list[str]:
        """Make the aliases say what the ledger says *now*, however old the event is; what was moved by hand."""
        moved = aliases.mirror(self.client, self.store, model_name)
        self.moved += moved
        return moved

    def _run(self, event: Mapping[str, Any]) -> None:
        run_id = self._run_id(event["model_name"], event["run"], started=event["started"])
        self._log(run_id, params={name: event[name] for name in ("flow", "recipe", "settings")})

    def _stage(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        path = Path(event["path"])
        manifest = sealing.read_manifest(path)
        parent = self._run_id(event["model_name"], event["run"])
        key = f"{event['run']}/{event['stage']}"
        run_id = self._run_id(event["model_name"], key, name=event["stage"], parent=parent, started=event["started"])
        # Timestamps come from the artifact: a repeated call then sends equal rows, which MLflow stores once.
        at = int(event["started"] * 1000)
        metrics = [Metric(name, float(value), at, 0) for name, value in _numbers(manifest).items()]
        if not event["reused"]:
            metrics += _training_curve(path)
            for file in _small_texts(path, manifest):
                self.client.log_artifact(run_id, str(file))
        if manifest.inputs:
            self.client.log_inputs(run_id, datasets=_datasets(manifest))
        tags = {
            "digest": manifest.digest,
            "fingerprint": manifest.fingerprint,
            "path": str(path),
            "reused": event["reused"],
        }
        self._log(run_id, params=manifest.config, metrics=metrics, tags=tags)
        if manifest.kind == "Release":  # a version on a server points here
            self.client.log_artifact(parent, str(path / sealing.MANIFEST), "release")
        self.client.set_terminated(run_id, "FINISHED", int((event["started"] + event["seconds"]) * 1000))

    def _report(self, event: Mapping[str, Any]) -> None:
        """The run's page as an artifact of its MLflow run; a second one takes the place of the first."""
        page = Path(event["path"])
        if not page.is_file():
            raise Refused(f"{page} is gone")
        self.client.log_artifact(self._run_id(event["model_name"], event["run"]), str(page))

    def _end(self, event: Mapping[str, Any]) -> None:
        run_id = self._run_id(event["model_name"], event["run"])
        self.client.set_tag(run_id, "lifecycle.state", event["state"])
        if event["message"]:
            self.client.set_tag(run_id, "mlflow.note.content", event["message"][:PARAM_CHARACTERS])
        good = event["state"] in ("RELEASED", "AWAITING_APPROVAL", "COMPLETED", "BLOCKED", "INCONCLUSIVE")
        self.client.set_terminated(run_id, "FINISHED" if good else "FAILED", int(event["ended"] * 1000))

    def _run_id(
        self,
        experiment: str,
        key: str,
        *,
        name: str | None = None,
        parent: str | None = None,
        started: float | None = None,
    ) -> str:
        """The MLflow run with this key, created if it is new: the tag is set by the call that creates it."""
        experiment_id = self._experiment(experiment)
        if key in self._runs:
            return self._runs[key]
        if found := self.client.search_runs([experiment_id], f"tags.`lifecycle.key` = '{key}'", max_results=1):
            return self._runs.setdefault(key, str(found[0].info.run_id))
        tags = {"lifecycle.key": key, **({"mlflow.parentRunId": parent} if parent else {})}
        at = int(started * 1000) if started is not None else None
        created = self.client.create_run(experiment_id, start_time=at, tags=tags, run_name=name or key)
        return self._runs.setdefault(key, str(created.info.run_id))

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            place = str(self.store.root / "mlartifacts") if self.is_local else None
            self._experiments[name] = found.experiment_id if found else self.client.create_experiment(name, place)
        return self._experiments[name]

    def _log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any],
        metrics: Sequence[Any] = (),
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """As few calls as MLflow's limits allow."""
        from mlflow.entities import Param, RunTag

        all_params = [Param(name, _shorten(value)) for name, value in _flat(params)]
        all_tags = [RunTag(f"lifecycle.{name}", str(value)) for name, value in (tags or {}).items()]
        self.client.log_batch(run_id, params=all_params[:PARAMS_PER_CALL], tags=all_tags)
        for start in range(PARAMS_PER_CALL, len(all_params), PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=all_params[start : start + PARAMS_PER_CALL])
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])


def _datasets(manifest: sealing.Manifest) -> list[Any]:
    """The stage's inputs, as MLflow shows data sets."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = [InputTag("mlflow.data.context", "input")]
    return [
        DatasetInput(Dataset(entry.kind, entry.digest[:36], "lifecycle", json.dumps({"digest": entry.digest})), context)
        for entry in manifest.inputs
    ]


def _numbers(manifest: sealing.Manifest) -> dict[str, float]:
    """The numbers an artifact is known by; a score that was not measured is absent, never zero."""
    facts = manifest.facts
    numbers = {name: value for name, value in facts.items() if isinstance(value, int | float)}
    if manifest.kind == "EvalReport":
        numbers |= {name: score["mean"] for name, score in facts["scores"].items() if score["mean"] is not None}
        numbers |= {f"baseline.{name}": value for name, value in facts["baselines"].items()}
    return numbers | {"seconds": manifest.seconds}


def _training_curve(path: Path) -> list[Any]:
    from mlflow.entities import Metric

    file = path / sealing.LOG_FOLDER / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
    return [
        Metric(name, float(value), int(row["time"] * 1000), int(row["step"]))
        for row in rows
        for name, value in row.items()
        if name not in ("step", "time") and isinstance(value, int | float)
    ]


def _small_texts(path: Path, manifest: sealing.Manifest) -> Iterator[Path]:
    yield path / sealing.MANIFEST
    for name, entry in manifest.files.items():
        file = path / name
        if file.suffix in TEXT_SUFFIXES and entry.bytes <= TEXT_BYTES:
            yield file


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= PARAM_CHARACTERS else text[: PARAM_CHARACTERS - 1] + "…"


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
