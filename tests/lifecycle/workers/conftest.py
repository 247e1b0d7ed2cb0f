"""What several workers' tests start from."""

import json
from pathlib import Path

import pytest
import torch

from lifecycle.artifacts import Checkpoint
from lifecycle.data.jsonl import load_rows
from lifecycle.stages.sft import SftConfig, SftJob
from lifecycle.workers import sft as showing
from lifecycle.workers.job import Recorder


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """What is made once for all tests of a file."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def one_thread():
    """Tensors this small wait longer for a second thread than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shown(one_thread, base, comparisons, kept, tmp_path) -> Checkpoint:
    """A model that answers as the comparisons do, half of the time chatty: SFT on both their sides."""
    out = kept / "shown"
    if out.exists():
        return Checkpoint.load(out)
    (out / "log").mkdir(parents=True)
    rows = [
        {"id": f"{row['id']}-{side}", "source": "made-up", "messages": [*row["prompt"], *row[side]]}
        for row in load_rows(comparisons.path / "train.jsonl")
        for side in ("chosen", "rejected")
    ]
    file = tmp_path / "both.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SftConfig(epochs=60, batch_rows=16, learning_rate=1e-2, log_every_steps=100)
    job = SftJob(
        out_dir=out,
        scratch_dir=out / "scratch",
        config=config,
        base=base.path,
        train_file=file,
        dev_file=file,
        max_seq_len=base.max_seq_len,
    )
    showing.train(job, Recorder(out / "log"))
    return Checkpoint(path=out, **{**base.facts(), "role": "sft"}).seal(config)
