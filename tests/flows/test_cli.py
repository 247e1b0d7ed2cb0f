"""What a person can type wrong is refused before anything heavy is imported, and nothing is written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOUSE = Path(__file__).with_name("fake_house.py")
LIGHT = "import sys; sys.path.insert(0, {folder!r}); import fake_house; fake_house.move_in(); from flows import cli\n"


def run(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    command = [sys.executable, str(HOUSE), *arguments]
    return subprocess.run(
        command,
        cwd=home,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "sft.qualty=2"], "Did you mean quality? Valid: fail, file, model, quality, seconds, shards"),
        (["--set", "stf.quality=2"], "Did you mean sft"),
        (["--set", "sft.quality=high"], "valid number"),
        (["--set", "sft.quality"], "expected --set stage.key=value"),
        (["--set", "sft.file=missing.jsonl"], "nothing at missing.jsonl"),
        (["--rebuild", "sfft"], "no stage has this name"),
        (["--recipe", "tinny"], "no recipe is called 'tinny'"),
        (["--recipe", "absent.py:mine"], "expected a recipe file"),
        (["--store", "file/store"], "expected a writable artifact store"),
        (["--engine", "dask"], "expected the address of a scheduler with engine dask"),
        (["--cluster", "tcp://host:8786"], "found engine 'here' and cluster 'tcp://host:8786'"),
        (["--workers", "2"], "expected an engine for 2 workers, found 'here'"),
        (["--engine", "threads", "--workers", "-1"], "--workers: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_command_line_exits_2_with_one_sentence_and_writes_nothing(tmp_path, arguments, says):
    (tmp_path / "file").write_text("not a folder")
    ended = run(tmp_path, "full_lifecycle", *arguments)
    assert ended.returncode == 2, ended.stderr
    assert says in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_checking_a_command_line_imports_nothing_heavy():
    script = LIGHT.format(folder=str(HOUSE.parent)) + (
        "cli.checked_recipe(cli.parse('full_lifecycle', ['--recipe', fake_house.RECIPE]))\n"
        "import json; print(json.dumps([m for m in ('prefect', 'mlflow', 'torch') if m in sys.modules]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == []


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, however deep."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = (int(fields[1]), fields[0])
    found, grew = {pid}, True
    while grew:
        below = {child for child, (parent, state) in parents.items() if parent in found and state != "Z"}
        grew = not below <= found
        found |= below
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begin_pretraining(home: Path, store: Path) -> "subprocess.Popen[str]":
    """A run that is in the middle of a slow stage, with its temporary server up."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    command = [sys.executable, str(HOUSE), "full_lifecycle", "--store", str(store), "--set", "pretrain.seconds=60"]
    process = subprocess.Popen(command, cwd=home, env=inherited, stderr=subprocess.PIPE, text=True)
    trace = store / "artifacts" / "pretrain" / "times_run"
    deadline = time.monotonic() + 90
    while not trace.exists():
        assert time.monotonic() < deadline, "the run never reached pretraining"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code", "state"),
    [(signal.SIGKILL, -9, "CRASHED"), (signal.SIGTERM, 85, "PREEMPTED"), (signal.SIGINT, 130, "CANCELLED")],
)
def test_a_stopped_run_leaves_no_process_says_so_and_its_finished_stages_stay(home, warm_store, stop, code, state):
    store = warm_store
    process = begin_pretraining(home, store)
    children = descendants(process.pid)
    assert children, "the temporary server should be running"
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    deadline = time.monotonic() + 5  # P6
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if alive(pid)]
    show = [sys.executable, "-m", "lifecycle", "show", "--store", str(store), "--json"]
    shown = subprocess.run(
        show,
        capture_output=True,
        text=True,
        check=True,
    )
    (record,) = json.loads(shown.stdout)["runs"]
    assert record["state"] == state
    assert [stage["stage"] for stage in record["stages"]] == ["suites", "corpus", "tokenizer", "shards"]
