"""Every ZeRO stage on one rank and on two is a plain PyTorch loop, resumes exactly, and may change ranks on the way.

All runs of one rank share this process, all of two ranks one launch: a start costs more than ten of these trainings.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import load_file

from lifecycle.data.shard_reader import ShardReader
from lifecycle.errors import LifecycleError, Preempted
from lifecycle.model import zero
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.network import network
from lifecycle.stages.pretrain import PretrainConfig, PretrainJob, Steps
from lifecycle.training import fragments, loop, random_state
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.workers.job import Recorder
from lifecycle.workers.pretrain import rate, train

pytestmark = pytest.mark.slow  # it imports deepspeed three times

STAGES, RANKS = (0, 1, 2, 3), (1, 2)
STEPS, SEAM, BATCH, ROWS, T, V = 12, 6, 8, 24, 16, 64
TO_ROUNDING = 2e-6
"""Of a loss near 4, where fp32 numbers are 4.8e-7 apart: two ranks add the same numbers in another order."""
PROGRAM = """
import os, sys
from pathlib import Path
from lifecycle.stages.pretrain import PretrainJob
from lifecycle.workers.job import Recorder
from lifecycle.workers.pretrain import train
for line in Path(sys.argv[1]).read_text().splitlines():
    job = PretrainJob.model_validate_json(line)
    train(job, Recorder(job.out_dir / "log"))
os._exit(0)
"""


def config(stage: int, ranks: int) -> PretrainConfig:
    """Accumulation over two micro batches, clipping that is felt, and in stage 2 activation checkpointing."""
    cut = PretrainConfig().zero.model_copy(update={"stage": stage})
    return PretrainConfig(
        model=ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64),
        horizon=Steps(steps=STEPS),
        batch_rows=BATCH,
        micro_batch_rows=BATCH // 2 // ranks,
        warmup_steps=3,
        precision="fp32",
        clip=0.5,
        zero=cut,
        ranks=ranks,
        threads=1,
        activation_checkpointing=stage == 2,
        save_every_steps=SEAM,
        validate_every_steps=STEPS,
        log_every_steps=1,
    )


class House:
    """A folder of trainings."""

    def __init__(self, root: Path) -> None:
        self.root, self.shards = root, root / "shards"

    def job(self, name: str, config: PretrainConfig, *, seam_of: str = "") -> PretrainJob:
        """A training to be done in folder `name`; it goes on from what another one saved half way."""
        out_dir = self.root / name
        (out_dir / "log").mkdir(parents=True)
        if seam_of:
            step = f"scratch/checkpoints/step-{SEAM:08d}"
            shutil.copytree(self.root / seam_of / step, out_dir / step)
        return PretrainJob(
            out_dir=out_dir,
            scratch_dir=out_dir / "scratch",
            config=config,
            shards_dir=self.shards,
            shards_digest="d" * 64,
            max_seq_len=T,
            vocab_size=V,
            bos_id=0,
            pad_id=1,
            stop_id=2,
        )

    def on_two_ranks(self, jobs: list[PretrainJob]) -> None:
        program, list_of_jobs = self.root / "program.py", self.root / "jobs"
        program.write_text(PROGRAM)
        list_of_jobs.write_text("\n".join(job.model_dump_json() for job in jobs))
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        root = Path(__file__).parents[3]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(
            [*launch, str(program), str(list_of_jobs)], cwd=root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def losses(self, name: str) -> dict[int, float]:
        lines = (self.root / name / "log" / "metrics.jsonl").read_text().splitlines()
        return {row["step"]: row["loss"] for row in map(json.loads, lines) if "loss" in row}

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.root / name / "model.safetensors")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, made_shards) -> Iterator[House]:
    """Every stage alone and on two ranks, and from the middle of each: as it was, and on the other number of ranks."""
    house = House(tmp_path_factory.mktemp("house"))
    house.shards.mkdir()
    first = np.random.default_rng(0).integers(0, V, (ROWS + 4, 1))
    rows = (first + np.arange(T) * (1 + first % 3)) % V
    made_shards(house.shards, rows[:ROWS].tolist(), rows[ROWS:].tolist(), max_seq_len=T, rows_per_shard=ROWS)
    before, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(1)
    alone, pair = ({stage: config(stage, ranks) for stage in STAGES} for ranks in RANKS)

    def go_on(name: str, config: PretrainConfig, seam_of: str) -> PretrainJob:
        reshard = not seam_of.startswith(f"{config.ranks} ranks, stage {config.zero.stage}")
        return house.job(name, config.model_copy(update={"reshard": reshard}), seam_of=seam_of)

    def here(job: PretrainJob) -> None:
        train(job, Recorder(job.out_dir / "log"))

    for stage in STAGES:
        here(house.job(f"1 ranks, stage {stage}", alone[stage]))
        here(go_on(f"1 ranks, stage {stage}, resumed", alone[stage], f"1 ranks, stage {stage}"))
    whole = [house.job(f"2 ranks, stage {stage}", pair[stage]) for stage in STAGES]
    grown = [go_on(f"2 ranks, stage {stage}, was 1", pair[stage], f"1 ranks, stage {stage}") for stage in STAGES]
    house.on_two_ranks(whole + grown)
    for stage in STAGES:
        here(go_on(f"1 ranks, stage {stage}, was 2", alone[stage], f"2 ranks, stage {stage}"))
    here(go_on("1 ranks, stage 3, was 2 of stage 1", alone[3], "2 ranks, stage 1"))
    yield house
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def plain(house: House) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same training without DeepSpeed, ranks, micro batches or checkpointing: losses and weights."""
    settings, reader = config(0, 1), ShardReader(house.shards)
    ids = {"vocab_size": V, "max_seq_len": T, "bos_id": 0, "pad_id": 1, "stop_id": 2}
    model = network(settings.model, attention="eager", seed=settings.seed, **ids)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas)
    found = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(settings, step, STEPS, warmup_steps=3)
        rows_BT = torch.from_numpy(reader.rows(reader.rows_for(step, BATCH, settings.seed)))
        logits_NV = model(input_ids=rows_BT[:, :-1]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits_NV, rows_BT[:, 1:].flatten())
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip) > settings.clip
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found, model.state_dict()


@pytest.mark.parametrize(("stage", "ranks"), list(product(STAGES, RANKS)))
def test_every_stage_is_a_plain_loop_to_one_millionth(house, plain, stage, ranks):
    expected, weights = plain
    found = house.losses(f"{ranks} ranks, stage {stage}")
    assert [found[step + 1] for step in range(STEPS)] == pytest.approx(expected, abs=1e-6)
    saved = house.weights(f"{ranks} ranks, stage {stage}")
    assert max(float((saved[name] - weights[name]).abs().max()) for name in saved) < 1e-5
    assert expected[-1] < expected[0] - 0.5  # there was something to get wrong


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_goes_on_from_a_checkpoint_with_the_same_bytes(house, stage):
    whole, resumed = f"1 ranks, stage {stage}", f"1 ranks, stage {stage}, resumed"
    expected = house.losses(whole)
    assert house.losses(resumed) == {step: expected[step] for step in range(SEAM + 1, STEPS + 1)}
    weights, reference = house.weights(resumed), house.weights(whole)
    assert all(torch.equal(weights[name], reference[name]) for name in reference)


SEAMS = {f"2 ranks, stage {stage}, was 1": f"1 ranks, stage {stage}" for stage in STAGES}
SEAMS |= {f"1 ranks, stage {stage}, was 2": f"2 ranks, stage {stage}" for stage in STAGES}
SEAMS |= {"1 ranks, stage 3, was 2 of stage 1": "2 ranks, stage 1"}


@pytest.mark.parametrize("resharded", SEAMS)
def test_after_the_number_of_ranks_changed_losses_are_those_of_the_run_it_came_from(house, resharded):
    expected, found = house.losses(SEAMS[resharded]), house.losses(resharded)
    assert list(found) == list(range(SEAM + 1, STEPS + 1))
    assert found == pytest.approx({step: expected[step] for step in found}, abs=TO_ROUNDING)
    weights, reference = house.weights(resharded), house.weights(SEAMS[resharded])
    assert max(float((weights[name] - reference[name]).abs().max()) for name in reference) < 1e-5


def trained(house: House, job: PretrainJob) -> None:
    train(job, Recorder(job.out_dir / "log"))


def must_equal(house: House, name: str, reference: str) -> None:
    assert house.losses(name) == house.losses(reference)
    found, expected = house.weights(name), house.weights(reference)
    assert all(torch.equal(found[tensor], expected[tensor]) for tensor in expected)


def test_killed_in_every_step_it_ends_with_the_same_bytes(house, monkeypatch):
    """Each attempt dies one step later, with or without a checkpoint of the step before: it saves every other step."""
    job = house.job("killed", config(1, 1).model_copy(update={"save_every_steps": 2}))
    metrics, attempts = Recorder.metrics, []

    def killed(self, step, **values):
        metrics(self, step, **values)
        if "loss" in values and step >= len(attempts):
            raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "metrics", killed)
    while len(attempts) < STEPS:
        attempts.append("dies one step later")
        with pytest.raises(KeyboardInterrupt):
            trained(house, job)
    monkeypatch.undo()
    trained(house, job)
    must_equal(house, "killed", "1 ranks, stage 1")


MOMENTS = {
    "before step 1": (Checkpoints, "load_newest", 1),
    "during a save": (fragments, "save", 4 + 1),
    "during a validation": (loop, "validation_loss", 4 + 1),
    "twice, the second time while the first is being saved": (random_state, "of_this_process", 4 + 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_told_to_stop_it_leaves_a_whole_checkpoint_and_goes_on_to_the_same_bytes(house, monkeypatch, moment):
    settings = config(1, 1).model_copy(update={"save_every_steps": 4, "validate_every_steps": 4})
    job = house.job(moment, settings)
    place, name, saved = MOMENTS[moment]
    work = getattr(place, name)

    def told(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return work(*args, **kwargs)

    monkeypatch.setattr(place, name, told)
    with pytest.raises(Preempted, match=rf"saved after step {saved} of {STEPS}"):
        trained(house, job)
    monkeypatch.undo()
    assert Preempted.exit_code == 85
    assert (job.scratch_dir / "checkpoints" / f"step-{saved:08d}" / "manifest.json").exists()
    trained(house, job)
    must_equal(house, moment, "1 ranks, stage 1")


OFFLOADED = [
    {"stage": 2, "offload_optimizer": True},
    {"stage": 3, "offload_optimizer": True, "offload_parameters": True},
]


@pytest.mark.parametrize("settings", OFFLOADED)
def test_what_is_kept_in_host_memory_changes_no_number(house, plain, settings):
    name = f"offloaded {settings['stage']}"
    cut = PretrainConfig().zero.model_copy(update=settings)
    trained(house, house.job(name, config(settings["stage"], 1).model_copy(update={"zero": cut})))
    assert list(house.losses(name).values()) == pytest.approx(plain[0], abs=1e-6)
    resumed = config(settings["stage"], 1).model_copy(update={"zero": cut})
    trained(house, house.job(f"{name}, resumed", resumed, seam_of=name))
    found, expected = house.weights(f"{name}, resumed"), house.weights(name)
    assert all(torch.equal(found[tensor], expected[tensor]) for tensor in expected)


@pytest.mark.parametrize("stage", [1, 3])
def test_fp16_skips_what_overflows_names_the_step_and_goes_on_with_its_loss_scale(house, plain, monkeypatch, stage):
    """DeepSpeed refuses fp16 on this CPU because it is slow: here that refusal is lifted."""
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    monkeypatch.setitem(zero.FP16, "initial_scale_power", 20)
    settings = config(stage, 1).model_copy(update={"precision": "fp16"})
    jobs = [house.job(f"fp16, stage {stage}", settings)]
    result = train(jobs[0], Recorder(jobs[0].out_dir / "log"))
    assert 0 < result.findings["fp16_overflow"] < SEAM
    findings = (jobs[0].out_dir / "log" / "findings.jsonl").read_text().splitlines()
    assert "cannot hold: the step was skipped, the loss scale is now" in json.loads(findings[0])["evidence"]
    skipped = result.findings["fp16_overflow"]
    found = house.losses(f"fp16, stage {stage}")
    assert found[STEPS] == pytest.approx(plain[0][-1 - skipped], abs=0.3)
    trained(house, house.job(f"fp16, stage {stage}, resumed", settings, seam_of=f"fp16, stage {stage}"))
    weights, expected = (house.weights(f"fp16, stage {stage}{more}") for more in (", resumed", ""))
    assert all(torch.equal(weights[tensor], expected[tensor]) for tensor in expected)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any((tensor != tensor.half()).any() for tensor in weights.values())  # not what was rounded to compute with


def test_other_ranks_and_stages_are_refused_by_name_and_other_seeds_also_when_resharding(house):
    cut = PretrainConfig().zero.model_copy(update={"stage": 3})
    asked = config(0, 1).model_copy(update={"zero": cut})
    with pytest.raises(LifecycleError) as spread:
        train(house.job("refused", asked, seam_of="2 ranks, stage 1"), Recorder(house.root / "refused" / "log"))
    assert "with micro_batch_rows: 2 -> 4, ranks: 2 -> 1, zero.stage: 1 -> 3. Set reshard" in str(spread.value)
    other = config(1, 1).model_copy(update={"reshard": True, "seed": 7, "learning_rate": 1.0})
    job = house.job("refused too", other, seam_of="2 ranks, stage 1").model_copy(update={"shards_digest": "e" * 64})
    with pytest.raises(LifecycleError, match=r"learning_rate: 0\.003 -> 1\.0, seed: 0 -> 7, shards: 'd+' -> 'e+'"):
        train(job, Recorder(house.root / "refused too" / "log"))
