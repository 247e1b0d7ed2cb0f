"""Jobs under a real Slurm of two nodes: cancelled, killed and left alone, they end with the bytes of a local run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from steps import alive, moments, starts, worker

from lifecycle.artifacts import Checkpoint
from lifecycle.launchers import board
from lifecycle.launchers import slurm as slurm_launcher
from lifecycle.launchers.shape import Handle, Resources, Status
from lifecycle.launchers.slurm import Slurm, SlurmSettings
from lifecycle.sealing import sha256_file
from lifecycle.training.checkpoint import CheckpointManifest

ROOT = Path(__file__).parents[2]
TWO = Resources(nodes=2, hang_timeout_seconds=60, max_restarts=3)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(slurm_cluster.missing()), reason="needs Slurm: apt-get install munge slurmctld slurmd slurm-client"
    ),
]


@pytest.fixture(scope="module")
def conf() -> Iterator[Path]:
    with slurm_cluster.slurm() as conf:
        yield conf


@pytest.fixture
def place(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a job, and an environment in which its commands are found."""
    for name, value in slurm_cluster.environment(conf).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("CANARY_PASSWORD", "hunter2-hunter2")
    (tmp_path / "job").mkdir()
    return tmp_path


def submit(place: Path, body: str, **settings: object) -> tuple[Slurm, Handle]:
    """A job of two nodes that takes ten steps of nothing."""
    slurm = Slurm(place / "slurm", SlurmSettings(**settings))
    return slurm, slurm.submit(worker(place, body), place / "job", "steps-1", TWO)


def end_of(slurm: Slurm, handle: Handle) -> Status:
    for _ in moments(120):
        if (status := slurm.status(handle)).state not in ("waiting", "running"):
            return status
    raise AssertionError


def wait_for_starts(place: Path, times: int = 1) -> None:
    for _ in moments(120):
        if min(len(starts(place / "job", node)) for node in (0, 1)) >= times:
            return


def of_slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_second_submit_attaches_and_the_job_ends_on_both_nodes(place):
    slurm, handle = submit(place, "time.sleep(0.3)", environment={"SAID": "it's $HOME; `id`"})
    assert Slurm(place / "slurm", SlurmSettings()).submit("other", place / "job", "steps-1", TWO) == handle
    assert slurm.reattach("steps-2") is None
    wait_for_starts(place)
    home = place / "slurm" / handle.id.partition(":")[2]
    asked = [file.read_text() for file in home.iterdir() if file.is_file()]
    [rank] = starts(place / "job", 1)
    has = Path(f"/proc/{rank}/environ").read_bytes()
    assert b"SAID=it's $HOME; `id`\0" in has
    assert not any("hunter2" in text for text in [*asked, of_slurm("scontrol", "show", "job", handle.id.split(":")[0])])
    assert b"hunter2" not in has
    assert end_of(slurm, handle) == Status(state="ended", exit_code=0)
    slurm.cancel(handle, grace_seconds=1)
    assert slurm.reattach("steps-1") is None
    assert not list((place / "slurm").iterdir())


def test_two_that_submit_at_once_have_one_job(place, monkeypatch):
    first, handle = submit(place, "time.sleep(1)")
    second = Slurm(place / "slurm", SlurmSettings())
    answers = iter([None, handle])
    monkeypatch.setattr(second, "reattach", lambda key: next(answers))  # it looked before the first one submitted
    assert second.submit("other", place / "job", "steps-1", TWO) == handle
    assert of_slurm("squeue", "--noheader", "--name=steps-1", "--states=PENDING,RUNNING", "-o", "%A").split() == [
        handle.id.split(":")[0]
    ]
    first.cancel(handle, grace_seconds=30)


def test_told_by_slurm_it_saves_leaves_and_goes_on_as_the_same_job(place):
    slurm, handle = submit(place, "time.sleep(1 if attempt == 1 else 0)")
    wait_for_starts(place)
    of_slurm("scancel", "--batch", "--signal=TERM", handle.id.split(":")[0])  # what its time limit would send
    assert end_of(slurm, handle) == Status(state="ended", exit_code=0)
    assert [len(starts(place / "job", node)) for node in (0, 1)] == [2, 2]
    slurm.cancel(handle, grace_seconds=1)


def test_told_by_its_flow_it_stays_away(place):
    slurm, handle = submit(place, "time.sleep(1)")
    wait_for_starts(place)
    slurm.cancel(handle, grace_seconds=30)
    assert of_slurm("squeue", "--noheader") == ""
    assert "JobState=FAILED" in of_slurm("scontrol", "show", "job", "-o", handle.id.split(":")[0])  # 85, not cancelled


def test_a_step_that_is_killed_is_noticed(place, monkeypatch):
    """Its slurmstepd: srun waits for it for ever, and node 1 for a node 0 that is started anew."""
    monkeypatch.setattr(board, "LOST_SECONDS", 5)
    monkeypatch.setattr(slurm_launcher, "ASK_SECONDS", 1)
    slurm, handle = submit(place, "time.sleep(60)")
    wait_for_starts(place)
    assert slurm.status(handle).state == "running"
    [rank] = starts(place / "job", 0)
    os.kill(step_of(rank), signal.SIGKILL)
    for _ in moments(5):
        if not alive(rank):
            break
    status = end_of(slurm, handle)
    assert (status.state, status.exit_code) == ("lost", None)
    assert "expected word of node 0 every second" in status.reason
    [other] = starts(place / "job", 1)
    slurm.cancel(handle, grace_seconds=1)
    assert not alive(other)


def step_of(pid: int) -> int:
    """The slurmstepd above a process."""
    while b"slurmstepd" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        assert pid > 1
    return pid


FLOW = """
import sys
from pathlib import Path
from lifecycle import launch
from lifecycle.errors import LifecycleError
from lifecycle.launchers import slurm
from lifecycle.model.architecture import ModelConfig
from lifecycle.stages.corpus import build_corpus
from lifecycle.stages.pretrain import Steps, pretrain
from lifecycle.stages.shards import pack_shards
from lifecycle.stages.suites import collect_suites
from lifecycle.stages.tokenizer import train_tokenizer
from lifecycle.store import Store
from micro import micro

slurm.ASK_SECONDS = 1.0
store, recipe = Store(Path(sys.argv[1])), micro()
corpus_config = recipe.corpus.model_copy(update={"sources": recipe.corpus.sources[1:]})
suites = store.make(collect_suites, recipe.suites).artifact
corpus = store.make(build_corpus, corpus_config, suites).artifact
tokenizer = store.make(train_tokenizer, recipe.tokenizer, corpus).artifact
shards = store.make(pack_shards, recipe.shards, corpus, tokenizer).artifact
if len(sys.argv) > 2:
    smaller = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64)
    shape = {"local": {"ranks": 2}, "slurm": {"ranks": 1, "launch": launch.Launch(launcher="slurm", nodes=2)}}
    changed = {"model": smaller, "horizon": Steps(steps=60), "threads": 1, "save_every_steps": 5, **shape[sys.argv[2]]}
    try:
        print(store.make(pretrain, recipe.pretrain.model_copy(update=changed), shards, tokenizer).artifact.digest)
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
"""


def flow(store: Path, *launcher: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    command = [sys.executable, "-c", FLOW, str(store), *launcher]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(process: "subprocess.Popen[str]", code: int) -> str:
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, out + err
    return out.strip() + err.strip()


def job_with_a_checkpoint(store: Path, beyond: int = 0) -> str:
    """The number of its job in Slurm, once it has saved after that step."""
    for _ in moments(300):
        saved = sorted(store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*/manifest.json"))
        if saved and int(saved[-1].parent.name.removeprefix("step-")) > beyond:
            return of_slurm("squeue", "--noheader", "--states=RUNNING", "-o", "%A").strip()
    raise AssertionError


def test_pretraining_through_slurm_cancelled_killed_and_left_alone_ends_with_the_local_digest(place):
    prepared, local, store = place / "prepared", place / "local", place / "store"
    done(flow(prepared), 0)
    for copy in (local, store):
        shutil.copytree(prepared, copy)
    expected = done(flow(local, "local"), 0)

    told = flow(store, "slurm")
    of_slurm("scancel", job_with_a_checkpoint(store))
    assert "Preempted" in done(told, 85)
    newest = max(store.glob("artifacts/pretrain/*/scratch/checkpoints/step-*"))
    sealed = CheckpointManifest.model_validate_json((newest / "manifest.json").read_bytes())
    assert {name: sha256_file(newest / name) for name in sealed.files} == {
        name: entry.sha256 for name, entry in sealed.files.items()
    }

    killed = flow(store, "slurm")  # -9: the job is Slurm's, and goes on
    job = job_with_a_checkpoint(store, beyond=sealed.step)
    killed.kill()
    killed.communicate()
    attached = flow(store, "slurm")
    assert done(attached, 0) == expected
    assert of_slurm("squeue", "--noheader") == ""
    [made] = store.glob("artifacts/pretrain/*")
    assert Checkpoint.load(made).digest == expected
    assert "JobState=COMPLETED" in of_slurm("scontrol", "show", "job", "-o", job)
