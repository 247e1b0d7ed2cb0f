"""The SFT stage: what it refuses at once, and a whole run in a worker of its own."""

import json
import signal
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from lifecycle.errors import ContractError
from lifecycle.sealing import fingerprint
from lifecycle.stages.sft import SftConfig, SftJob, fine_tune
from lifecycle.workers import sft as worker
from lifecycle.workers.job import Recorder


def test_only_a_base_checkpoint_is_fine_tuned(sft, demonstrations, out_dir):
    with pytest.raises(ContractError, match="expected a checkpoint with role base, found 'sft'"):
        fine_tune(SftConfig(), sft, demonstrations, out_dir=out_dir)
    assert not list(out_dir.iterdir())


def test_how_it_ran_is_no_part_of_identity(base, demonstrations):
    same = SftConfig(threads=1, ranks=2, micro_batch_rows=4, log_every_steps=1, recompute_activations=True)
    assert fingerprint(same, [base, demonstrations]) == fingerprint(SftConfig(), [base, demonstrations])
    assert fingerprint(SftConfig(epochs=2), [base, demonstrations]) != fingerprint(SftConfig(), [base, demonstrations])


DIES_IN_STEP_3 = """
import os, signal, sys
from pathlib import Path
from lifecycle.stages.sft import SftJob
from lifecycle.workers import sft
from lifecycle.workers.job import Recorder

def die(self, step_taken=sft.Trainer.step_taken):
    if self.state.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step_taken(self)

sft.Trainer.step_taken = die
folder = Path(sys.argv[1])
sft.train(SftJob.model_validate_json((folder / "job.json").read_bytes()), Recorder(folder))
"""


def in_this_process(config, base, demonstrations, out_dir):
    """What the stage's worker does, without its process."""
    (out_dir / "log").mkdir(parents=True)
    job = SftJob(
        out_dir=out_dir,
        scratch_dir=out_dir / "scratch",
        config=config,
        base=base.path,
        train_file=demonstrations.path / "train.jsonl",
        dev_file=demonstrations.path / "dev.jsonl",
        max_seq_len=base.max_seq_len,
        inputs={"base": base.digest, "demonstrations": demonstrations.digest},
    )
    return job, lambda: worker.train(job, Recorder(out_dir / "log"))


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_the_sealed_checkpoint_that_an_unbroken_one_is(base, demonstrations, tmp_path):
    """Three processes: one is killed, the stage's worker goes on from what it left, and this one is not disturbed."""
    config = SftConfig(batch_rows=16, learning_rate=1e-2, epochs=2, save_every_steps=2, log_every_steps=1, threads=1)
    job, _ = in_this_process(config, base, demonstrations, tmp_path / "killed")
    (job.out_dir / "log/job.json").write_text(job.model_dump_json())
    ended = subprocess.run([sys.executable, "-c", DIES_IN_STEP_3, str(job.out_dir / "log")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [path.name for path in (job.scratch_dir / "checkpoints").glob("step-*")] == ["step-00000002"]
    made = fine_tune(config, base, demonstrations, out_dir=job.out_dir)
    _, train = in_this_process(config, base, demonstrations, tmp_path / "whole")
    tuned = train()
    for name, value in tuned.model_dump(exclude={"heldout"}).items():
        assert getattr(made, name) == value, name
    assert (made.role, made.protocol_digest, made.steps) == ("sft", base.protocol_digest, 6)
    assert not job.scratch_dir.exists()
    for file in (file for file in (tmp_path / "whole").iterdir() if file.is_file()):
        assert (made.path / file.name).read_bytes() == file.read_bytes(), file.name
    assert [losses(tmp_path / name) for name in ("killed", "whole")] == [losses(tmp_path / "whole")] * 2


def losses(folder):
    rows = map(json.loads, (folder / "log/metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
def test_two_ranks_give_the_loss_and_the_weights_of_one_also_where_they_share_out_their_state(
    base, demonstrations, tmp_path
):
    """Plain data parallelism and ZeRO-2: gradients are summed in another order, and nothing else."""
    settings = {"batch_rows": 16, "learning_rate": 1e-3, "precision": "fp32", "threads": 1}
    _, train = in_this_process(SftConfig(**settings), base, demonstrations, tmp_path / "one")
    one = train()
    expected = load_file(tmp_path / "one/model.safetensors")
    for zero in (0, 2):
        config = SftConfig(**settings, ranks=2, zero=zero)
        two = fine_tune(config, base, demonstrations, out_dir=tmp_path / f"zero-{zero}")
        assert two.tokens_seen == one.tokens_seen
        assert two.final_loss == pytest.approx(one.final_loss, abs=2e-6)
        for name, weight in load_file(two.path / "model.safetensors").items():
            torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=0)


def test_state_is_shared_out_among_ranks_only():
    with pytest.raises(ValidationError, match="zero=2 shares state out among ranks, found none"):
        SftConfig(zero=2)
