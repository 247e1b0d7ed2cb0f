"""Fixtures every test may use. Nothing here touches the network or the home directory."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    """An empty directory for one stage to write into."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
