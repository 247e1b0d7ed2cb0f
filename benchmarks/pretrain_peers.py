"""The sides of `benchmarks.pretrain`: our worker, a plain PyTorch loop, and Hugging Face's Trainer on the same rows.

Started by it, one process or several (DistributedDataParallel): `python -m benchmarks.pretrain_peers plain JOB ...`.
"""

import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from lifecycle.data.loader import Loader
from lifecycle.data.shard_reader import ShardReader
from lifecycle.model.network import network
from lifecycle.stages.pretrain import PretrainJob
from lifecycle.training.schedule import learning_rate
from lifecycle.workers.job import Recorder, rank
from lifecycle.workers.job import world_size as ranks

WINDOW = 10  # steps between two readings of the clocks
Reading = tuple[float, float]
"""Of the clock on the wall, and of the seconds all processes worked; ranks do the same work."""


def read_clocks() -> Reading:
    return time.time(), time.process_time() * ranks()


class Clocked(Recorder):
    """Our recorder, which notes the clocks beside each row of metrics, and where the seconds of work went."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.losses: list[float] = []
        self.clock: list[Reading] = []
        self.work: list[dict[str, float]] = []
        self.spent: Counter[str] = Counter()

    def metrics(self, step: int, **values: float) -> None:
        super().metrics(step, **values)
        if "loss" in values:
            self.losses.append(values["loss"])
            self.clock.append(read_clocks())
            self.work.append(dict(self.spent))

    def counted(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its thread's seconds of work added to those of its part."""

        def run(*given: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*given, **named)
            finally:
                self.spent[part] += time.thread_time() - started

        return run


def ours(job: PretrainJob) -> dict[str, Any]:
    """The worker of the stage as it is, with a clock around each of its parts.

    Imported here: a peer's garbage collector has nothing of ours to look through.
    """
    from lifecycle.training import loop
    from lifecycle.training.batches import Fed
    from lifecycle.training.watchdog import Watchdog
    from lifecycle.workers import pretrain as worker

    recorder = Clocked(job.out_dir / "log")
    recorder.folder.mkdir(exist_ok=True)
    around = [
        (Loader, "_read", "rows"),  # in a thread of its own
        (Fed, "logits", "forward"),
        (loop, "next_token_loss", "loss"),
        (loop, "_agree", "agree"),
        (Watchdog, "after_step", "watchdog"),
        (Watchdog, "after_log", "watchdog"),
        (Clocked, "metrics", "metrics"),
        (Clocked, "progress", "metrics"),
        (Clocked, "alive", "metrics"),
    ]
    for owner, name, part in around:
        setattr(owner, name, recorder.counted(part, getattr(owner, name)))
    start = worker.start_engine

    def started(job: PretrainJob) -> Any:
        engine = start(job)
        engine.backward = recorder.counted("backward", engine.backward)
        engine.step = recorder.counted("reduce and step", engine.step)
        return engine

    worker.start_engine = started
    worker.train(job, recorder)
    return {"losses": recorder.losses, "clock": recorder.clock, "work": recorder.work}


class Rows(Dataset[dict[str, torch.Tensor]]):
    """All rows of the run in the order they are trained on, and each token's position in its document, in memory: no
    peer waits for a disk."""

    def __init__(self, job: PretrainJob, steps: int) -> None:
        reader, config = ShardReader(job.shards_dir), job.config
        order = np.concatenate([reader.rows_for(step, config.batch_rows, config.seed) for step in range(steps)])
        self.rows_BT = torch.from_numpy(reader.rows(order))
        self.positions_BT = torch.from_numpy(reader.positions(order))

    def __len__(self) -> int:
        return len(self.rows_BT)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self.rows_BT[index]
        return {"input_ids": ids, "position_ids": self.positions_BT[index], "labels": ids}


def model_of(job: PretrainJob) -> Any:
    """The network that the run starts from, weight for weight."""
    ids = {name: getattr(job, name) for name in ("vocab_size", "max_seq_len", "bos_id", "pad_id", "stop_id")}
    return network(job.model, attention="eager", seed=job.config.seed, **ids)


def optimizer_of(model: torch.nn.Module, job: PretrainJob) -> torch.optim.Optimizer:
    config = job.config
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1.0, betas=config.betas, fused=True)


def rate_of(job: PretrainJob, step: int, steps: int) -> float:
    config = job.config
    return learning_rate(
        step,
        steps=steps,
        peak=config.learning_rate,
        warmup_steps=config.warmup(job.max_seq_len),
        schedule=config.schedule,
        final_share=config.final_learning_rate_share,
    )


def plain(job: PretrainJob, steps: int) -> dict[str, Any]:
    """As one writes it by hand who knows: autocast, fused AdamW, a garbage collector that does not look through all
    that is imported, no synchronisation before the end of a window."""
    model = model_of(job)
    spread = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True) if ranks() > 1 else model
    optimizer = optimizer_of(model, job)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=job.config.precision == "bf16")
    rows = Rows(job, steps)
    rows_SBT, positions_SBT = (each.unflatten(0, (steps, -1)) for each in (rows.rows_BT, rows.positions_BT))
    losses, clock = [], [read_clocks()]
    gc.freeze()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_of(job, step, steps)
        rows_BT, positions_BT = (each[step, rank() :: ranks()] for each in (rows_SBT, positions_SBT))
        with cast:
            logits_BTV = spread(input_ids=rows_BT[:, :-1], position_ids=positions_BT[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), rows_BT[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.config.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if (step + 1) % WINDOW == 0:
            clock.append(read_clocks())
    found = torch.stack(losses)
    if ranks() > 1:
        dist.all_reduce(found)
    return {"losses": (found / ranks()).tolist(), "clock": clock}


class InOrder(Trainer):  # type: ignore[misc]
    """The Trainer, which shuffles unless told not to."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each window ended."""

    def __init__(self) -> None:
        self.read: list[Reading] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.read.append(read_clocks())

    def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step % WINDOW == 0:
            self.read.append(read_clocks())


def trainer(job: PretrainJob, steps: int, log_every: int) -> dict[str, Any]:
    """`transformers.Trainer` with the same model, rows, optimizer, schedule and precision."""
    model, clock = model_of(job), Clock()
    optimizer = optimizer_of(model, job)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_of(job, step, steps))
    arguments = TrainingArguments(
        output_dir=str(job.scratch_dir),
        per_device_train_batch_size=job.config.batch_rows // ranks(),
        max_steps=steps,
        max_grad_norm=job.config.clip,
        bf16=job.config.precision == "bf16",
        use_cpu=True,
        ddp_backend="gloo" if ranks() > 1 else None,
        logging_steps=log_every,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
    )
    running = InOrder(
        model=model,
        args=arguments,
        train_dataset=Rows(job, steps),
        optimizers=(optimizer, schedule),
        callbacks=[clock],
    )
    running.train()
    losses = [row["loss"] for row in running.state.log_history if "loss" in row]
    return {"losses": losses, "clock": clock.read}


def main() -> None:
    """`ours|plain|trainer JOB STEPS LOG_EVERY RESULT`."""
    side, job_file, steps, log_every, result = sys.argv[1:]
    job = PretrainJob.model_validate_json(Path(job_file).read_bytes())
    if ranks() > 1 and side != "ours":
        dist.init_process_group("gloo")
    match side:
        case "ours":
            found = ours(job)
        case "plain":
            found = plain(job, int(steps))
        case _:
            found = trainer(job, int(steps), int(log_every))
    if rank() == 0:
        Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
