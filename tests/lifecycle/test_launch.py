"""Workers: results come back, errors keep their names, and nobody outlives the parent (P6)."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from lifecycle import launch, progress
from lifecycle.errors import ContractError, Preempted, WorkerFailed
from lifecycle.launch import Job, Launch, run_worker


class Answer(BaseModel):
    value: int


THROWAWAY = """
from lifecycle.launch import Job
from lifecycle.workers import job as doorway
from pydantic import BaseModel

class Answer(BaseModel):
    value: int

def work(job, recorder):
BODY

if __name__ == "__main__":
    doorway.run(Job, work)
"""


def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> str:
    """A throwaway worker module whose `work(job, recorder)` has this body."""
    source = THROWAWAY.replace("BODY", textwrap.indent(textwrap.dedent(body), "    "))
    (tmp_path / "throwaway_worker.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(launch.__file__).parent.parent}")
    return "throwaway_worker"


def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir(parents=True, exist_ok=True)
    return Job(out_dir=tmp_path / "out", scratch_dir=tmp_path / "out" / "scratch")


def test_a_worker_returns_its_result_and_its_progress_is_heard(tmp_path, monkeypatch):
    name = worker(
        tmp_path,
        monkeypatch,
        "import time\nrecorder.progress(1, 2, 'steps', 'loss 3.2')\ntime.sleep(0.5)\nreturn Answer(value=7)",
    )
    heard = []
    with progress.listening(heard.append):
        assert run_worker(name, job(tmp_path), Answer) == Answer(value=7)
    assert heard == [progress.Progress(1, 2, "steps", "loss 3.2")]


def test_an_error_of_ours_keeps_its_class_and_its_message(tmp_path, monkeypatch):
    name = worker(
        tmp_path,
        monkeypatch,
        "from lifecycle.errors import ContractError\nraise ContractError('expected a, found b, do c')",
    )
    with pytest.raises(ContractError, match="expected a, found b, do c"):
        run_worker(name, job(tmp_path), Answer)


def test_a_worker_that_dies_is_reported_with_the_end_of_its_log(tmp_path, monkeypatch):
    name = worker(tmp_path, monkeypatch, "print('last words', flush=True)\nimport os\nos._exit(9)")
    with pytest.raises(WorkerFailed, match=r"exit code 9(.|\n)*last words"):
        run_worker(name, job(tmp_path), Answer)


def test_a_result_of_an_earlier_attempt_is_never_taken_for_this_one(tmp_path, monkeypatch):
    run_worker(worker(tmp_path, monkeypatch, "return Answer(value=1)"), job(tmp_path), Answer)
    with pytest.raises(WorkerFailed):
        run_worker(worker(tmp_path, monkeypatch, "import os\nos._exit(0)"), job(tmp_path), Answer)


def test_a_full_memory_is_reported_and_so_never_tried_again(tmp_path, monkeypatch):
    name = worker(tmp_path, monkeypatch, "recorder.progress(1, 2, 'steps')\nraise MemoryError('11 GiB')")
    with pytest.raises(WorkerFailed, match="expected the job to fit into memory, found MemoryError: 11 GiB"):
        run_worker(name, job(tmp_path), Answer, launch=Launch())
    assert not (tmp_path / "out" / "log" / "findings.jsonl").exists()


def test_exit_code_85_means_saved_and_resumable(tmp_path, monkeypatch):
    with pytest.raises(Preempted):
        run_worker(worker(tmp_path, monkeypatch, "import sys\nsys.exit(85)"), job(tmp_path), Answer)


def test_the_worker_dies_with_its_parent(tmp_path, monkeypatch):
    name = worker(
        tmp_path, monkeypatch, "import os, time\n(job.out_dir / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    parent = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_launch import *
run_worker({name!r}, job(Path({str(tmp_path)!r})), Answer)
"""
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        file = tmp_path / "out" / "pid"
        while not file.exists() or not file.read_text():
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while _alive(int(file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(int(file.read_text()))


def _alive(pid: int) -> bool:
    """Running, and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_does_not_take_its_parents_place_among_ranks(tmp_path, monkeypatch):
    """A flow that is started under torchrun, or by a process that used torch.distributed, has a rank of its own."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")
    body = "import os\nfound = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name in os.environ]\n"
    name = worker(tmp_path, monkeypatch, f"{body}return Answer(value=len(found))")
    assert run_worker(name, job(tmp_path), Answer).value == 0


def test_the_next_flow_attaches_to_a_job_of_a_dead_one_and_has_its_output_written_again(tmp_path, monkeypatch):
    """kill -9 of a flow whose ranks belong to an agent: the job goes on, and is done once."""
    body = """
    import time
    with (job.scratch_dir / "starts").open("a") as starts:
        starts.write("x")
    while not (job.scratch_dir / "finish").exists():
        time.sleep(0.05)
    (job.out_dir / "model").write_text("weights")
    return Answer(value=7)
    """
    name = worker(tmp_path, monkeypatch, body)
    handed = job(tmp_path / "store/artifacts/x")
    handed.scratch_dir.mkdir()
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_launch import *
flow({name!r}, Path({str(tmp_path)!r}) / "store/artifacts/x")
"""
    starts = handed.scratch_dir / "starts"
    join = [sys.executable, "-m", "lifecycle", "join", "--node-rank", "0", "--store", str(tmp_path / "store")]
    with subprocess.Popen(join) as agent:
        with subprocess.Popen([sys.executable, "-c", program]) as dying:
            wait_for(starts.exists)
            dying.kill()
        (handed.scratch_dir / "finish").touch()  # the job is about to end: what it writes now may yet be cleared
        assert flow(name, handed.out_dir.parent) == Answer(value=7)
        agent.terminate()
    assert (handed.out_dir / "model").read_text() == "weights"
    assert len(starts.read_text()) <= 2
    assert not list((tmp_path / "store" / "nodes").glob("*/call.json"))


def flow(name: str, folder: Path) -> Answer:
    return run_worker(name, job(folder), Answer, launch=Launch(launcher="nodes", hang_timeout_seconds=None))


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
