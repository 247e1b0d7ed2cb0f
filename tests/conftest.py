"""Fixtures every test may use. Nothing here touches the network or the home directory."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What a script starts with `&` ignores SIGINT, and so does all it starts: Prefect's worker then never stops its runs.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    """An empty directory for one stage to write into."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
