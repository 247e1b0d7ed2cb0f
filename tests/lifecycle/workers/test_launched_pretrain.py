"""Pretraining that hangs, or loses a node, ends with the bytes of a run nobody touched. Two ranks, for real."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from steps import findings, moments

from lifecycle import stages
from lifecycle.launch import Launch, run_worker
from lifecycle.model.architecture import ModelConfig
from lifecycle.stages.pretrain import WORKER, PretrainConfig, PretrainJob, PretrainResult, Steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

ROWS, T, V = 24, 32, 64
CONFIG = PretrainConfig(
    model=ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64),
    horizon=Steps(steps=200),
    batch_rows=8,
    micro_batch_rows=2,
    warmup_steps=5,
    precision="fp32",
    ranks=2,
    threads=1,
    save_every_steps=20,
    validate_every_steps=100,
    log_every_steps=1,
)


@pytest.fixture(scope="module")
def shards_dir(tmp_path_factory: pytest.TempPathFactory, made_shards) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    rows = (np.arange(ROWS + 4)[:, None] * 7 + np.arange(T)) % V
    made_shards(folder, rows[:ROWS].tolist(), rows[ROWS:].tolist(), max_seq_len=T, rows_per_shard=ROWS)
    return folder


def job_in(out_dir: Path, shards_dir: Path, **settings: object) -> PretrainJob:
    out_dir.mkdir(parents=True, exist_ok=True)
    return PretrainJob(
        out_dir=out_dir,
        scratch_dir=out_dir / "scratch",
        config=CONFIG.model_copy(update=settings),
        shards_dir=shards_dir,
        shards_digest="d" * 64,
        max_seq_len=T,
        vocab_size=V,
        bos_id=0,
        pad_id=1,
        stop_id=2,
    )


@pytest.fixture(scope="module")
def untouched(shards_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("untouched")
    run_worker(WORKER, job_in(out_dir, shards_dir), PretrainResult, ranks=2, threads=1)
    return out_dir


FLOW = """
import signal, sys
from pathlib import Path
from lifecycle.errors import Preempted
from lifecycle.launch import run_worker
from lifecycle.stages.pretrain import *

def preempt(*_):
    raise Preempted("told to stop")

signal.signal(signal.SIGTERM, preempt)  # as `flows.cli` does
job = PretrainJob.model_validate_json(Path(sys.argv[1]).read_bytes())
try:
    run_worker(WORKER, job, PretrainResult, ranks=job.config.ranks, threads=1, launch=job.config.launch)
except Preempted as error:
    sys.exit(error.exit_code)
"""


@contextmanager
def flow(job: PretrainJob, *, ends_with: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    """What the stage does, in a process of its own, and how that has to end."""
    file = job.out_dir / "job.json"
    file.write_text(job.model_dump_json())
    with subprocess.Popen([sys.executable, "-c", FLOW, str(file)], cwd=Path(stages.__file__).parents[2]) as process:
        yield process
        assert process.wait() == ends_with


def agent(store: Path, node: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "lifecycle", "join", "--node-rank", str(node), "--store", str(store)]
    return subprocess.Popen([*command, "--address", "127.0.0.1"], cwd=Path(stages.__file__).parents[2])


def ranks_of(job: PretrainJob) -> list[int]:
    """Live processes that run the worker on this job, the youngest last."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[1:4] == [b"-m", WORKER.encode(), str(job.out_dir / "log").encode()]:
            found.append(int(folder.name))
    return sorted(found)


def wait_for_a_checkpoint(job: PretrainJob) -> None:
    wait_for(lambda: list(job.scratch_dir.glob("checkpoints/step-*/manifest.json")))


def steps_done(job: PretrainJob) -> int:
    return max(losses_of(job.out_dir))


def wait_for(condition: Callable[[], object]) -> None:
    for _ in moments(300):
        if condition():
            return


def bytes_of(out_dir: Path) -> tuple[dict[int, float], str]:
    """Every step's loss, and the digest of the weights."""
    return losses_of(out_dir), hashlib.sha256((out_dir / "model.safetensors").read_bytes()).hexdigest()


def losses_of(out_dir: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (out_dir / "log" / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_a_flow_told_to_stop_and_a_stopped_rank_change_no_byte(untouched, shards_dir, tmp_path):
    job = job_in(tmp_path / "out", shards_dir, launch=Launch(hang_timeout_seconds=8, max_restarts=10))
    with flow(job, ends_with=85) as process:
        wait_for_a_checkpoint(job)
        process.send_signal(signal.SIGTERM)
    assert not ranks_of(job)
    reported = json.loads((job.out_dir / "log" / "error.json").read_text())
    assert reported["kind"] == "Preempted"
    step = int(reported["message"].split("saved after step ")[1].split()[0])
    assert (job.scratch_dir / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()

    with flow(job):
        wait_for(lambda: steps_done(job) > step)
        os.kill(ranks_of(job)[1], signal.SIGSTOP)
    assert bytes_of(job.out_dir) == bytes_of(untouched)
    assert {row["rule"] for row in findings(job.out_dir / "log")} == {"hang"}
    log = (job.out_dir / "log" / "worker.log").read_text()
    [hang] = [part for part in log.split("---- hang") if "state T," in part]
    waiting, stopped = hang.split("state T,")
    assert "torch/distributed/" in waiting  # the other rank shows the collective it waits in
    assert "lifecycle/training/" in stopped


def test_two_nodes_of_one_rank_are_one_node_of_two_also_when_an_agent_is_killed(untouched, shards_dir, tmp_path):
    launch = Launch(launcher="nodes", nodes=2)
    job = job_in(tmp_path / "store/artifacts/pretrain/2b1c-9f0e", shards_dir, ranks=1, launch=launch)
    agents = [agent(tmp_path / "store", node) for node in (0, 1)]
    try:
        with flow(job):
            wait_for_a_checkpoint(job)
            agents[1].kill()
            agents[1].wait()
            for _ in moments(60):  # 1 s on a quiet machine
                if not ranks_of(job):  # of the other node neither: its ranks cannot go on alone
                    break
            agents[1] = agent(tmp_path / "store", 1)
    finally:
        for process in agents:
            process.kill()
            process.wait()
    assert bytes_of(job.out_dir) == bytes_of(untouched)
    assert [row["action"] for row in findings(job.out_dir / "log")] == ["restart"]
