"""Pretraining for real: two ranks, killed in every way, and against a plain PyTorch loop (P3, P6)."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lifecycle import stages
from lifecycle.errors import Preempted, TrainingDiverged
from lifecycle.launch import run_worker
from lifecycle.model.architecture import ModelConfig
from lifecycle.stages.pretrain import WORKER, PretrainConfig, PretrainJob, PretrainResult, Steps

STEPS, ROWS, VALIDATION_ROWS, T, V = 60, 24, 5, 32, 64
CONFIG = PretrainConfig(
    model=ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64),
    horizon=Steps(steps=STEPS),
    batch_rows=8,
    micro_batch_rows=2,
    warmup_steps=5,
    precision="fp32",
    ranks=2,
    threads=1,
    save_every_steps=5,
    validate_every_steps=25,
    log_every_steps=1,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards_dir(tmp_path_factory: pytest.TempPathFactory, made_shards) -> Path:
    """Rows of a sequence that can be learned: each id is the one before plus a stride of the row."""
    folder = tmp_path_factory.mktemp("shards")
    first = np.random.default_rng(0).integers(0, V, (ROWS + VALIDATION_ROWS, 1))
    rows = (first + np.arange(T) * (1 + first % 3)) % V
    made_shards(folder, rows[:ROWS].tolist(), rows[ROWS:].tolist(), max_seq_len=T, rows_per_shard=ROWS)
    return folder


def job_in(out_dir: Path, shards_dir: Path, config: PretrainConfig = CONFIG) -> PretrainJob:
    out_dir.mkdir(exist_ok=True)
    special = {"bos_id": 0, "pad_id": 1, "stop_id": 2}
    return PretrainJob(
        out_dir=out_dir,
        scratch_dir=out_dir / "scratch",
        config=config,
        shards_dir=shards_dir,
        shards_digest="d" * 64,
        max_seq_len=T,
        vocab_size=V,
        **special,
    )


@pytest.fixture(scope="module")
def uninterrupted(shards_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PretrainResult]:
    out_dir = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_EXTENSIONS_DIR", str(out_dir / "compiled"))
        return out_dir, run_worker(WORKER, job_in(out_dir, shards_dir), PretrainResult, ranks=2, threads=1)


def losses(out_dir: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (out_dir / "log" / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_two_ranks_learn(uninterrupted):
    out_dir, result = uninterrupted
    found = losses(out_dir)
    assert result.validation_loss < np.log(V)
    assert found[STEPS] < found[1] / 2


def test_nothing_is_compiled(uninterrupted):
    assert not (uninterrupted[0] / "compiled").exists()


def test_the_folder_is_a_model_anybody_can_load(uninterrupted):
    from transformers import AutoModelForCausalLM

    out_dir, result = uninterrupted
    model = AutoModelForCausalLM.from_pretrained(out_dir)
    assert sum(p.numel() for p in model.parameters()) == result.parameters
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 1)
    assert model.config.use_cache


def test_killed_truncated_and_told_to_stop_it_ends_with_the_same_bytes(uninterrupted, shards_dir, tmp_path):
    """kill -9 of the parent; the newest checkpoint cut short; SIGTERM; and still the run nobody touched."""
    reference, result = uninterrupted
    out_dir = tmp_path / "out"
    job = job_in(out_dir, shards_dir)
    checkpoints = out_dir / "scratch" / "checkpoints"

    with launched(job, tmp_path) as process:
        wait_for(lambda: len(list(checkpoints.glob("step-*/manifest.json"))) >= 2, process=process)
        ranks = ranks_of(job)
        assert len(ranks) == 2
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not ranks_of(job), seconds=2)

    newest = max(checkpoints.glob("step-*"))
    victim = newest / "state-00001.safetensors"
    os.truncate(victim, victim.stat().st_size // 2)

    with launched(job, tmp_path) as process:
        wait_for(lambda: (checkpoints / "quarantine" / newest.name).is_dir(), process=process)
        wait_for(lambda: newest.is_dir(), process=process)  # it caught up with what was damaged
        os.kill(ranks_of(job)[1], signal.SIGTERM)  # one rank hears it, both must act
    assert json.loads((out_dir / "log" / "error.json").read_text())["kind"] == Preempted.__name__

    assert run_worker(WORKER, job, PretrainResult, ranks=2, threads=1) == result
    assert losses(out_dir) == losses(reference)
    assert digest(out_dir / "model.safetensors") == digest(reference / "model.safetensors")
    assert f"{newest.name} failed verification" in (out_dir / "log" / "worker.log").read_text()


def test_killing_the_agent_leaves_no_rank_behind(shards_dir, tmp_path):
    job = job_in(tmp_path / "out", shards_dir)
    with launched(job, tmp_path) as process:
        wait_for(lambda: len(ranks_of(job)) == 2, process=process)  # at this moment they are importing
        os.kill(children(process.pid)[0], signal.SIGKILL)
    wait_for(lambda: not ranks_of(job), seconds=2)
    assert not ranks_of(job)


def test_a_loss_that_is_not_a_number_stops_all_ranks_and_names_step_and_rows(shards_dir, tmp_path):
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    job = job_in(tmp_path / "out", shards_dir, config)
    expected = r"in step 1, found loss .* norm (nan|inf).* training rows \[\d+, "
    with pytest.raises(TrainingDiverged, match=expected) as caught:
        run_worker(WORKER, job, PretrainResult, ranks=2, threads=1)
    assert "(rank 0, 1)" in str(caught.value)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_step_is_logged_once_whatever_happened_to_the_run(uninterrupted):
    steps = list(losses(uninterrupted[0]))
    assert all(after == before + 1 for before, after in pairwise(steps))


def launched(job: PretrainJob, tmp_path: Path) -> "subprocess.Popen[bytes]":
    """`run_worker` in a process of its own, so that it can be killed."""
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    program = (
        "import sys; from pathlib import Path; from lifecycle.launch import run_worker; "
        "from lifecycle.stages.pretrain import *; "
        "job = PretrainJob.model_validate_json(Path(sys.argv[1]).read_bytes()); "
        "run_worker(WORKER, job, PretrainResult, ranks=2, threads=1)"
    )
    root = Path(stages.__file__).parents[2]
    with (tmp_path / "parent.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", program, str(file)], cwd=root, stdout=log, stderr=log)


def ranks_of(job: PretrainJob) -> list[int]:
    """Live processes that run the worker on this job, in the order they were started; not the agent, not the guard."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            dead = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            continue
        if not dead and command[1:4] == [b"-m", WORKER.encode(), str(job.out_dir / "log").encode()]:
            found.append(int(folder.name))
    return sorted(found)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, seconds: float = 120, process: "subprocess.Popen[bytes] | None" = None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, "it ended meanwhile"
        time.sleep(0.005)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
