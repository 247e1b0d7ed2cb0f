"""P3 on the real chain: kill -9 in pretraining and in SFT, the same command again, the same release, byte for byte."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lifecycle.ledger import Ledger
from lifecycle.runs import Run, all_runs
from lifecycle.store import Store

pytestmark = pytest.mark.slow  # 1-2 minutes: the whole chain twice, side by side, on real parts

RECIPE = f"{Path(__file__).with_name('micro.py')}:micro"


def command(store: Path) -> list[str]:
    return [sys.executable, "-m", "flows.full_lifecycle", "--plain", "--recipe", RECIPE, "--store", str(store)]


def finish(store: Path) -> str:
    """Run to the end; the digest of what is live then."""
    ended = subprocess.run(command(store), capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    live = Ledger(Store(store)).live()
    assert live is not None
    return live.release


def kill_when(store: Path, moment: Callable[[], bool]) -> None:
    """Start the run and kill -9 it at that moment; nothing of it may live five seconds later (P6)."""
    with subprocess.Popen(command(store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not moment():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (alive := processes_of(store)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == []


def processes_of(store: Path) -> list[str]:
    """Command lines of running processes that name the store, or were started with it in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            words = folder.joinpath("cmdline").read_bytes() + folder.joinpath("environ").read_bytes()
        except OSError:
            continue
        if str(store).encode() in words:
            found.append(words.split(b"\0\0")[0].decode(errors="replace")[:300])
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_chain_killed_in_pretraining_and_in_sft_ends_with_the_release_of_an_untouched_one(tmp_path):
    untouched, killed = tmp_path / "untouched", tmp_path / "killed"
    with ThreadPoolExecutor(1) as aside:
        expected = aside.submit(finish, untouched)
        runs = killed_twice_and_finished(killed)
        live = Ledger(Store(killed)).live()
        assert live is not None
        assert live.release == expected.result()

    assert [run.state for run in runs] == ["RELEASED", "CRASHED", "CRASHED"]
    reused = {record.stage for record in runs[0].stages if record.reused}
    assert {"suites", "corpus", "tokenizer", "shards", "pretrain", "demonstrations"} <= reused
    # The second run went on from the checkpoint: its first steps were trained before it began.
    metrics = next(killed.glob("artifacts/pretrain/*/log/metrics.jsonl")).read_text().splitlines()
    started = runs[1].record.started
    steps_before = [line for line in metrics if float(line.split('"time": ')[1].split(",")[0]) < started]
    assert steps_before, "expected the steps up to the checkpoint to be kept, found them made again"


def killed_twice_and_finished(store: Path) -> list[Run]:
    """The runs of a store, newest first: one killed in pretraining, one in SFT, one that came to its end."""
    checkpoints = "artifacts/pretrain/*/scratch/checkpoints/step-*"
    kill_when(store, lambda: len(list(store.glob(checkpoints))) >= 1)
    sft_metrics = "artifacts/sft/*/log/metrics.jsonl"
    kill_when(store, lambda: any('"loss"' in file.read_text() for file in store.glob(sft_metrics)))
    finish(store)
    return list(all_runs(Store(store)))
