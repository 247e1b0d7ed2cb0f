"""Between a worker and a run: whatever becomes of the worker, the run is asked to end, and has its time to do so."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from steps import alive, moments

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's part is Linux'")

ENGINE = """
import os, pathlib, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
folder = pathlib.Path(sys.argv[1])
(folder / "pid").write_text(str(os.getpid()))
while not told or sys.argv[2] == "deaf":
    time.sleep(0.01)
print("saving", flush=True)  # with nobody left to read
(folder / "saved").write_text("whole")
sys.exit(7)
"""
SHELTER = """
import signal, sys
from flows.sheltered import Shelter
command = [sys.executable, "-c", {engine!r}, {folder!r}, {kind!r}]
if sys.argv[1:] == ["keep"]:
    sys.exit(Shelter(command, when_we_die=signal.SIGKILL, grace=1).wait())
keeper = [sys.executable, {folder!r} + "/shelter.py", "keep"]
sys.exit(Shelter(keeper, when_we_die=signal.SIGTERM).wait())
"""


def sheltered(folder: Path, kind: str = "polite") -> tuple["subprocess.Popen[bytes]", int]:
    """What a worker starts, and the process of the engine in it."""
    (folder / "shelter.py").write_text(SHELTER.format(engine=ENGINE, folder=str(folder), kind=kind))
    process = subprocess.Popen([sys.executable, str(folder / "shelter.py")], stdout=subprocess.PIPE)
    for _ in moments():
        if (folder / "pid").exists() and (folder / "pid").read_text():
            break
    return process, int((folder / "pid").read_text())


def test_what_the_worker_says_reaches_the_engine_once_and_its_exit_code_and_words_come_back(tmp_path):
    process, _ = sheltered(tmp_path)
    process.send_signal(signal.SIGTERM)
    words, _ = process.communicate(timeout=60)
    assert (process.returncode, words) == (7, b"saving\n")
    assert (tmp_path / "saved").read_text() == "whole"


def test_an_engine_whose_worker_kills_it_saves_first(tmp_path):
    """SIGKILL is what a process worker sends when it is told to stop; its end of the pipe is gone then, too."""
    process, engine = sheltered(tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    process.kill()
    process.wait()
    for _ in moments(30):
        if not alive(engine):
            break
    assert (tmp_path / "saved").read_text() == "whole"


def test_one_that_does_not_end_is_killed_after_its_grace(tmp_path):
    process, engine = sheltered(tmp_path, "deaf")
    process.kill()
    process.wait()
    for _ in moments(30):
        if not alive(engine):
            break
    assert not (tmp_path / "saved").exists()
