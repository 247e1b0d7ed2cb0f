"""The outbox: MLflow gets every event exactly once, whatever it was doing when it was written."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from releases import make_release

from lifecycle.artifacts import Checkpoint, Suites
from lifecycle.errors import TrackingUnavailable
from lifecycle.ledger import Ledger
from lifecycle.sealing import StageConfig
from lifecycle.store import Store
from tasks import outbox, tracking
from tasks.outbox import Tracker

CURVE = "".join(f'{{"step": {step}, "time": {1000 + step}.5, "loss": {3 - step / 10}}}\n' for step in range(5))
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody answers


class TrainConfig(StageConfig):
    stage: ClassVar[str] = "train"
    learning_rate: float = 0.001


def train(config: TrainConfig, *, out_dir: Path) -> Checkpoint:
    (out_dir / "model.safetensors").write_bytes(b"weights" * 1000)
    (out_dir / "config.json").write_text("{}")
    (out_dir / "log" / "metrics.jsonl").write_text(CURVE)
    sizes = {"parameters": 10, "max_seq_len": 8, "steps": 5, "tokens_seen": 40}
    return Checkpoint(path=out_dir, role="base", protocol_digest="p", final_loss=2.6, **sizes).seal(config)


@pytest.fixture
def tracker(tmp_path, database, monkeypatch, request) -> Tracker:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return Tracker(Store(tmp_path / "store"), request.node.name)


def record_a_run(tracker: Tracker, run: str = "run-1") -> None:
    made = tracker.store.make(train, TrainConfig())
    tracker.record("run", run=run, flow="train-base", recipe="tiny", settings="", started=1000.0)
    stage = {"stage": "train", "path": str(made.artifact.path), "reused": made.reused}
    tracker.record("stage", run=run, **stage, started=1001.0, seconds=5.0)
    tracker.record("end", run=run, state="COMPLETED", message="", ended=1010.0)


def runs_of(tracker: Tracker) -> dict[str, object]:
    client = tracker._mlflow().client
    experiment = client.get_experiment_by_name(tracker.model_name)
    return {run.data.tags["lifecycle.key"]: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_has_a_parent_a_child_per_stage_params_curve_inputs_and_small_files(tracker):
    record_a_run(tracker)
    tracker.start()
    status = tracker.flush(60)
    assert (status.waiting, status.problem) == (0, None)
    runs = runs_of(tracker)
    parent, child = runs["run-1"], runs["run-1/train"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.params["learning_rate"] == "0.001"
    assert child.data.metrics["final_loss"] == 2.6
    client = tracker._mlflow().client
    assert [point.value for point in client.get_metric_history(child.info.run_id, "loss")] == [3, 2.9, 2.8, 2.7, 2.6]
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"manifest.json", "config.json"}
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")


def test_an_interrupted_replay_goes_on_without_writing_anything_twice(tracker, monkeypatch):
    record_a_run(tracker)
    client = tracker._mlflow().client
    ended = client.set_terminated
    monkeypatch.setattr(client, "set_terminated", lambda *_: (_ for _ in ()).throw(ConnectionError("pulled the plug")))
    with pytest.raises(ConnectionError):
        tracker._replay()  # the child run and its metrics are written, its event is still in the outbox
    assert len(tracker._events()) == 2
    monkeypatch.setattr(client, "set_terminated", ended)
    after_restart = Tracker(tracker.store, tracker.model_name)
    after_restart._replay()
    assert after_restart._events() == []
    runs = runs_of(after_restart)
    assert sorted(runs) == ["run-1", "run-1/train"]
    child = runs["run-1/train"].info.run_id
    assert len(client.get_metric_history(child, "loss")) == 5
    assert len(client.get_metric_history(child, "final_loss")) == 1


def test_an_outage_warns_once_keeps_every_event_and_the_next_run_sends_them(tracker, monkeypatch, caplog):
    working = tracker.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.1)
    down = Tracker(tracker.store, tracker.model_name)
    record_a_run(down)
    down.start()
    assert down.flush(60).waiting == 3
    record_a_run(down, "run-2")
    assert down.flush(60).waiting == 6
    assert sum("events are kept" in message for message in caplog.messages) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", working)
    back = Tracker(tracker.store, tracker.model_name)
    back.start()
    assert back.flush(60).waiting == 0
    assert sorted(runs_of(back)) == ["run-1", "run-1/train", "run-2", "run-2/train"]


def test_an_event_mlflow_will_never_take_is_put_aside_and_does_not_hold_up_the_rest(tracker):
    tracker.record("stage", run="run-1", stage="gone", path="/no/such/artifact", reused=False, started=1.0, seconds=1.0)
    record_a_run(tracker)
    tracker._replay()
    assert tracker._events() == []
    assert len(list(tracker._refused.iterdir())) == 1
    assert "run-1/train" in runs_of(tracker)


def test_registering_waits_fails_closed_and_is_done_once(tracker, monkeypatch):
    made = make_release(tracker.store, "one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnavailable, match="Nothing was promoted"):
        Tracker(tracker.store, tracker.model_name).register(made, "run-1")
    assert tracker.register(made, "run-1") == "1"
    assert tracker.register(made, "run-1") == "1"
    version = tracker._mlflow().client.get_model_version(tracker.model_name, "1")
    assert version.source == str(made.model_dir)
    assert version.tags["lifecycle.release"] == made.digest


def test_suites_have_numbers_without_being_loaded(tmp_path):
    suites = Suites(path=tmp_path, items={"contract": 3}, baselines={"contract": 0.4})
    manifest = suites.seal(TrainConfig()).manifest
    assert tracking._numbers(manifest) == {"seconds": manifest.seconds}


@pytest.fixture
def mlflow_server(tmp_path) -> Iterator[str]:
    """A real MLflow server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        address[0],
        "--port",
        str(address[1]),
        "--workers",
        "1",
    ]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = {**os.environ, **tracking.ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *stores], env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
    url = f"http://{address[0]}:{address[1]}"
    deadline = time.monotonic() + 120
    try:
        while not answers(f"{url}/health"):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_a_real_server_takes_a_run_and_a_version_without_any_weights(mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    tracker = Tracker(Store(tmp_path / "store"), "served")
    record_a_run(tracker)
    made = make_release(tracker.store, "one")
    tracker.record("stage", run="run-1", stage="release", path=str(made.path), reused=False, started=1.0, seconds=1.0)
    assert tracker.register(made, "run-1") == "1"
    Ledger(tracker.store).promote(made, expected=None, reason="test")
    tracker.record("aliases")
    tracker._replay()
    client = tracker._mlflow().client
    champion = client.get_model_version_by_alias("served", "champion")
    parent = runs_of(tracker)["run-1"].info.run_id
    assert champion.source == f"runs:/{parent}/release"
    assert [file.path for file in client.list_artifacts(parent, "release")] == ["release/manifest.json"]
    assert len(client.get_metric_history(runs_of(tracker)["run-1/train"].info.run_id, "loss")) == 5


def test_the_page_of_a_run_becomes_its_artifact_and_a_second_one_takes_its_place(tracker, tmp_path):
    record_a_run(tracker)
    page = tmp_path / "report.html"
    for text in ("first", "second"):
        page.write_text(text)
        tracker.record("report", run="run-1", path=str(page))
        tracker._replay()
    client, parent = tracker._mlflow().client, runs_of(tracker)["run-1"]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text() == "second"


def test_a_page_that_is_gone_does_not_hold_up_what_follows(tracker, tmp_path):
    tracker.record("report", run="run-1", path=str(tmp_path / "gone.html"))
    record_a_run(tracker)
    tracker._replay()
    assert tracker._events() == []
    assert sorted(runs_of(tracker)) == ["run-1", "run-1/train"]
