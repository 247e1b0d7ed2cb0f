"""Runs that fail in ways a number does not show, planted in the rows or the settings of real training on one rank."""

import json
import os
from collections import Counter
from math import log
from statistics import fmean
from time import monotonic, sleep

import numpy as np
import pytest
from safetensors.torch import load_file

from lifecycle.data.packing import INDEX, write_sources
from lifecycle.data.shard_reader import ShardReader
from lifecycle.errors import TrainingDiverged
from lifecycle.model.architecture import ModelConfig
from lifecycle.stages.pretrain import PretrainConfig, PretrainJob, Steps
from lifecycle.training import watchdog
from lifecycle.training.watchdog import WatchdogRules
from lifecycle.workers.job import Recorder
from lifecycle.workers.pretrain import train

pytestmark = pytest.mark.slow  # 2 s each, and the first imports deepspeed

STEPS, BATCH, T, V = 100, 8, 32, 64
CONFIG = PretrainConfig(
    model=ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64),
    horizon=Steps(steps=STEPS),
    batch_rows=BATCH,
    warmup_steps=5,
    precision="fp32",
    ranks=1,
    threads=1,
    save_every_steps=20,
    validate_every_steps=10,
    log_every_steps=1,
)


@pytest.fixture(autouse=True, scope="module")
def one_rank():
    """One process group for all runs: deepspeed remembers the first it sees, and leaves a rank in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def shards(tmp_path, made_shards):
    """Write one epoch of rows that can be learned, after `spoil` changed them."""

    def write(spoil=lambda rows, reader: None, held_out=None, steps=STEPS):
        draw = np.random.default_rng(0)
        first = draw.integers(0, V, (steps * BATCH + 16, 1))
        rows = (first + np.arange(T) * (1 + first % 3)) % V
        held_out = rows[steps * BATCH :] if held_out is None else held_out
        for spoiling in (False, True):
            folder = tmp_path / ("spoilt" if spoiling else "shards")
            folder.mkdir()
            made_shards(
                folder, rows[: steps * BATCH].tolist(), held_out.tolist(), max_seq_len=T, rows_per_shard=steps * BATCH
            )
            if not spoiling:
                spoil(rows, ShardReader(folder))
        return tmp_path / "spoilt"

    return write


def trained(folder, out_dir, config=CONFIG, attempt=train):
    out_dir.mkdir(exist_ok=True)
    (out_dir / "log").mkdir(exist_ok=True)
    job = PretrainJob(
        out_dir=out_dir,
        scratch_dir=out_dir / "scratch",
        config=config,
        shards_dir=folder,
        shards_digest="d" * 64,
        max_seq_len=T,
        vocab_size=V,
        bos_id=0,
        pad_id=1,
        stop_id=2,
    )
    return attempt(job, Recorder(out_dir / "log"))


def findings(out_dir) -> list[dict]:
    file = out_dir / "log" / "findings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def losses(out_dir) -> list[float]:
    rows = [json.loads(line) for line in (out_dir / "log" / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def validated(out_dir) -> list[int]:
    rows = [json.loads(line) for line in (out_dir / "log" / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "validation_loss" in row]


def noise_in_steps(steps):
    def spoil(rows, reader):
        for step in steps:
            mine = reader.rows_for(step, BATCH, CONFIG.seed)
            rows[mine] = np.random.default_rng(step).integers(0, V, (BATCH, T))

    return spoil


def test_a_healthy_run_has_no_findings(shards, tmp_path):
    result = trained(shards(), tmp_path / "out")
    assert (result.findings, result.skipped_batches) == ({}, 0)
    assert losses(tmp_path / "out")[-1] < 1.5


def test_a_spike_is_rolled_back_its_batches_are_skipped_and_a_killed_run_ends_with_the_same_bytes(
    shards, tmp_path, monkeypatch
):
    folder = shards(noise_in_steps(range(70, 75)))
    result = trained(folder, tmp_path / "out")
    assert result.findings["loss_spike"] == 1
    assert result.skipped_batches == 15  # from the checkpoint of step 60 to the fifth bad batch
    assert [(row["step"], row["action"]) for row in findings(tmp_path / "out")][:2] == [(71, "warn"), (75, "roll_back")]
    assert len(losses(tmp_path / "out")) == STEPS
    assert validated(tmp_path / "out") == list(range(10, STEPS + 1, 10))

    def killed_twice(self, step, **values):
        visits[step] += "loss" in values
        if (step, visits[step]) in ((65, 2), (85, 1)):  # gone back and not saved since; saved since
            raise KeyboardInterrupt
        return metrics(self, step, **values)

    metrics, visits = Recorder.metrics, Counter()
    monkeypatch.setattr(Recorder, "metrics", killed_twice)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(folder, tmp_path / "again")
    monkeypatch.undo()
    assert trained(folder, tmp_path / "again") == result
    assert losses(tmp_path / "again") == losses(tmp_path / "out")
    assert findings(tmp_path / "again") == findings(tmp_path / "out")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"learning_rate": 3.0}, "worse_than_uniform"),  # a thousand times too high
        (  # it never learns
            {"learning_rate": 1e-9, "final_learning_rate_share": 1.0, "watchdog": WatchdogRules(plateau_steps=30)},
            "unigram_plateau",
        ),
    ],
)
def test_a_run_that_cannot_learn_ends_early_and_says_what_was_saved(shards, tmp_path, settings, rule):
    with pytest.raises(TrainingDiverged, match=rf"by its rule {rule}.*% of the budget is saved") as ended:
        trained(shards(), tmp_path / "out", CONFIG.model_copy(update=settings))
    assert len(losses(tmp_path / "out")) <= STEPS / 2, str(ended.value)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_model_that_knows_every_answer_is_stopped_when_its_loss_is_exactly_zero(shards, tmp_path):
    """One id alone: its logit rises above the others until, in fp32, one plus what they add is one."""

    def one_id(rows, reader):
        rows[:] = 7

    # A tenth a step: Adam's momentum carries the logits on when their gradient is next to nothing already.
    config = CONFIG.model_copy(update={"learning_rate": 0.1, "schedule": "wsd", "weight_decay": 0.0})
    with pytest.raises(TrainingDiverged, match=r"by its rule loss_is_zero.*% of the budget is saved"):
        trained(shards(one_id), tmp_path / "out", config)
    before = losses(tmp_path / "out")
    assert 5 < len(before) < STEPS
    assert before[0] == pytest.approx(log(V), abs=0.5)
    assert all(loss > 0 for loss in before)  # it was learned, step by step


def test_a_batch_of_which_every_label_is_masked_is_stopped_at_once(shards, tmp_path):
    folder = shards(padding_in_step(30))
    index = ShardReader(folder).index.model_copy(update={"padding_tokens": BATCH * (T - 1)})
    (folder / INDEX).write_text(index.model_dump_json())
    with pytest.raises(TrainingDiverged, match=r"in step 31 by its rule loss_is_zero.*69% of the budget is saved"):
        trained(folder, tmp_path / "out")
    assert len(losses(tmp_path / "out")) == 30


def padding_in_step(step):
    def spoil(rows, reader):
        rows[reader.rows_for(step, BATCH, CONFIG.seed)] = reader.index.pad_id

    return spoil


def test_a_loss_that_creeps_up_for_long_ends_the_run(shards, tmp_path):
    """Text that turns to noise, one token in 200 more with every step: none is an outlier, and there is no way back.

    Half a nat counts as far here, where three are all there is to learn.
    """

    def more_and_more_noise(rows, reader):
        draw = np.random.default_rng(1)
        for step in range(50, 150):
            mine = reader.rows_for(step, BATCH, CONFIG.seed)
            is_noise = draw.random((BATCH, T)) < (step - 50) / 200
            rows[mine] = np.where(is_noise, draw.integers(0, V, (BATCH, T)), rows[mine])

    rules = WatchdogRules(history_steps=32, divergence_nats=0.5)
    config = CONFIG.model_copy(update={"horizon": Steps(steps=150), "watchdog": rules})
    with pytest.raises(TrainingDiverged, match=r"by its rule divergence.*% of the budget is saved"):
        trained(shards(more_and_more_noise, steps=150), tmp_path / "out", config)
    found = losses(tmp_path / "out")
    assert 82 < len(found) < 149
    assert fmean(found[-20:]) > fmean(found[31:51]) + 0.5


def test_a_loader_that_became_slow_is_named_and_the_training_is_left_as_it_is(shards, tmp_path, monkeypatch):
    """Ten times slower from the 60th batch on. A minute of it would be one of this test: three steps count here."""
    read, moments = ShardReader.rows, []

    def rows(reader, indices):
        moments.append(monotonic())
        if len(moments) == 60:
            pause = max(0.2, 9 * float(np.median(np.diff(moments))))
            moments.append(pause)
            monkeypatch.setattr(watchdog, "SLOW_SECONDS", 3 * pause)
        if len(moments) > 60:
            sleep(moments[60])
        return read(reader, indices)

    monkeypatch.setattr(ShardReader, "rows", rows)
    result = trained(shards(), tmp_path / "out", CONFIG.model_copy(update={"horizon": Steps(steps=70)}))
    [said] = findings(tmp_path / "out")
    assert (said["rule"], said["action"]) == ("throughput_collapse", "warn")
    assert 50 < said["step"] <= 68
    assert result.findings == {}  # of the machine: no part of what is sealed
    assert len(losses(tmp_path / "out")) == 70


def test_a_spike_before_any_checkpoint_ends_the_run(shards, tmp_path):
    config = CONFIG.model_copy(update={"save_every_steps": STEPS})
    with pytest.raises(TrainingDiverged, match="expected a checkpoint from before the spike that ended in step 75"):
        trained(shards(noise_in_steps(range(70, 75))), tmp_path / "out", config)


def test_a_source_that_gets_worse_while_the_whole_gets_better_is_named(shards, tmp_path):
    first = np.arange(16)[:, None]
    held_out = (first + np.arange(T) * (1 + first % 3)) % V
    held_out[12:] = np.random.default_rng(5).integers(0, V, (4, T))
    folder = shards(held_out=held_out)
    digest = write_sources(folder, np.array([0] * 12 + [1] * 4))
    index = ShardReader(folder).index.model_copy(
        update={"validation_sources": {"sea": 2.0, "land": 4.0}, "validation_sources_sha256": digest}
    )
    (folder / INDEX).write_text(index.model_dump_json())
    result = trained(folder, tmp_path / "out")
    assert result.findings == {"validation_rises": 1}
    assert "on land, three times above its best" in findings(tmp_path / "out")[0]["evidence"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "log" / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "validation_loss" in row][-1]
    nats = [last[f"bits_per_byte/{source}"] * log(2) * size for source, size in (("sea", 2.0), ("land", 4.0))]
    assert (12 * nats[0] + 4 * nats[1]) / 16 == pytest.approx(last["validation_loss"], rel=1e-6)
