"""What our rules add to a trainer of TRL: the order of rows, the schedule, numbers checked and recorded, checkpoints.

TRL's trainer stays the frame: it wraps the model, makes the optimizer and takes the steps.
"""

import gc
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import transformers
from torch.nn.parallel import DistributedDataParallel

from lifecycle.errors import Preempted, WorkerFailed
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.course import Course, PlainEngine
from lifecycle.training.order import LengthWindows
from lifecycle.training.post import EarlyStopping, PostTrainingConfig
from lifecycle.training.shared_memory import SharedMean
from lifecycle.training.stop import StopRequest
from lifecycle.workers.job import Recorder, rank, world_size

NAMES = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate"}
Inputs = dict[str, Any]


class Run(NamedTuple):
    """One training: its settings and rows, where it leaves what, and what a checkpoint of it must agree with."""

    config: PostTrainingConfig
    batch: int
    """Rows of a step, over all ranks."""
    lengths: list[int]
    """Of each training row: rows of like length share a batch."""
    tokens: list[int]
    """Of each training row: what goes through the model."""
    recorder: Recorder
    names: Mapping[str, str]
    """TRL's name of a number -> ours."""
    opening: Mapping[str, float]
    """Recorded before the first step."""
    closing: str
    """What is recorded after the last step, and is measured again by a run that was killed then."""
    checkpoints: Path
    made_by: Mapping[str, Any]
    layout: Mapping[str, Any]


@dataclass
class MicroBatches:
    """This rank's share of the batches of the steps that are left, as the trainer's data loader."""

    batches: Iterator[list[int]]
    inputs: Callable[[list[int]], Inputs]
    rows: int
    """At once."""
    length: int
    """Micro batches of this rank in the whole training, also those that are done."""

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Inputs]:
        for batch in self.batches:
            parts = [batch[start : start + self.rows] for start in range(0, len(batch), self.rows)]
            for mine in parts[rank() :: world_size()]:
                yield self.inputs(mine)


class OurRules:
    """Mixed into a TRL trainer. A step reads the batch of its number, and a killed run goes on where it was."""

    accelerator: Any
    args: Any
    data_collator: Any
    is_deepspeed_enabled: bool
    judge: Callable[[int], float]
    lr_scheduler: Any
    model: Any
    model_wrapped: Any
    optimizer: Any
    rows_of_step: list[int]
    """Those of all ranks, in the step whose micro batches are read now."""
    state: Any
    train_dataset: Any

    def obey(self, run: Run, early: EarlyStopping | None = None) -> None:
        """Take our settings; once, before `train`."""
        self.run, self.early, self.course, self.note = run, early, Course(), ""
        self.stop, self.stopping = StopRequest().listen(), False
        self.loss_here = self.tokens_here = 0.0
        for weight in self.model.parameters():
            if weight.requires_grad:  # TRL makes adapters of a 4-bit base bf16, which loses steps of under 1/256
                weight.data = weight.data.float()
        config = run.config
        spread = {"ranks": world_size(), "micro_batch_rows": self.args.per_device_train_batch_size, "zero": config.zero}
        self.checkpoints = Checkpoints(
            run.checkpoints,
            keep=config.keep_checkpoints,
            keep_best=early is not None,
            made_by=run.made_by,
            layout={**spread, **run.layout},
            reshard=config.reshard,
        )
        self.add_callback(Steps(self))  # type: ignore[attr-defined]
        self.remove_callback(transformers.PrinterCallback)  # type: ignore[attr-defined]  # metrics.jsonl has it all
        # accelerate looks for garbage before the first step, Python later, in all that is imported: 0.3 s each time.
        gc.freeze()

    def get_train_dataloader(self) -> MicroBatches:
        """The micro batches of every step, a whole batch each: accelerate fills a last one up with rows it repeats."""
        micro, each = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        return MicroBatches(self._batches_left(), self._counted, rows=micro, length=self.args.max_steps * each)

    def _batches_left(self) -> Iterator[list[int]]:
        """Begun when the first step is taken: by then a checkpoint was loaded."""
        order = LengthWindows(self.run.lengths, batch=self.run.batch, seed=self.run.config.seed)
        done = self.args.max_steps if self.course.is_over(self.early) else self.state.global_step
        for batch in itertools.islice(order.batches(), done, self.args.max_steps):
            self.rows_of_step = batch
            yield batch

    def _counted(self, rows: list[int]) -> Inputs:
        self.tokens_here += sum(self.run.tokens[row] for row in rows)
        return self.micro_batch(rows)

    def micro_batch(self, rows: list[int]) -> Inputs:
        """What the model reads of these rows."""
        inputs: Inputs = self.data_collator([self.train_dataset[row] for row in rows])
        return inputs

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule pretraining has too, which does not waste its first step on a rate of 0."""
        if self.lr_scheduler is None:
            config = self.run.config
            share = [config.rate(s, num_training_steps) / config.learning_rate for s in range(num_training_steps)]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: share[min(step, num_training_steps - 1)]
            )
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        value = loss.item()
        must_be_finite("loss", value, self.state, ahead=1)
        self.loss_here += value  # a step may have several micro batches
        return loss

    def floating_point_ops(self, inputs: Inputs) -> int:
        """Nobody reads the trainer's count, and counting takes 1 % of a small model's step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs["loss"] = self.course.loss_since_logged()  # the trainer's own begins again in a run that goes on
        super().log(logs, start_time)  # type: ignore[misc]

    # Checkpoints: the trainer's own are pickles, written in place

    def engine(self) -> Any:
        """What checkpoints save."""
        if self.is_deepspeed_enabled:
            return self.model_wrapped
        return PlainEngine(
            self.accelerator.unwrap_model(self.model), getattr(self.optimizer, "optimizer", self.optimizer)
        )

    def go_on(self) -> None:
        """Begin where the newest checkpoint ends, or at the beginning."""
        share_gradients(self.model_wrapped)
        self.checkpoints.must_have_room(self.engine())
        self._load()
        step = self.state.global_step
        closed = self.run.closing if step == self.state.max_steps else ""
        self.run.recorder.resume_at(step or -1, measured_after=closed)
        if step == 0:
            self.run.recorder.metrics(0, **self.run.opening)

    def _load(self, *, at_most: float = math.inf) -> None:
        step, state = self.checkpoints.load_newest(self.engine(), at_most=at_most)
        if step == 0:
            return
        self.state.global_step, self.course = step, Course(**state)
        scheduler = self.lr_scheduler
        scheduler.last_epoch = step
        for group, rate in zip(self.optimizer.param_groups, scheduler.get_lr(), strict=True):
            group["lr"] = rate

    def step_taken(self) -> bool:
        """Put the step on record, on all ranks alike; whether to save after it."""
        here = torch.tensor([self.loss_here, self.tokens_here, self.stop.asked], dtype=torch.float64)
        here = here.to(self.accelerator.device)
        if world_size() > 1:
            dist.all_reduce(here)
        loss, tokens, asked = here.tolist()
        self.course.losses.append(loss / world_size())
        self.course.tokens += int(tokens)
        self.loss_here = self.tokens_here = 0.0
        self.stopping = asked > 0
        step = self.state.global_step
        self.run.recorder.progress(step, self.state.max_steps, "steps", self.note)
        return self.stopping or self._is_time(self.run.config.save_every_steps) or self._is_judged()

    def _save_checkpoint(self, *_: Any) -> None:
        """The trainer calls it after a step that was logged."""
        step, steps = self.state.global_step, self.state.max_steps
        value = self.judge(step) if self._is_judged() else None
        if value is not None:
            self.course.judged.append((step, value))
        self.checkpoints.save(self.engine(), step, asdict(self.course))
        if value is not None:
            self.checkpoints.validated(step, value)
        if self.stopping and step < steps:
            raise Preempted(f"told to stop: saved after step {step} of {steps}. The same command goes on from it.")

    def back_to_the_best(self) -> None:
        """With early stopping, take the weights and the course of the step that was best on held-out rows."""
        if self.early is not None:
            self._load(at_most=self.course.best_step())

    def _is_time(self, every: int) -> bool:
        step, steps = int(self.state.global_step), int(self.state.max_steps)
        return step % every == 0 or step == steps

    def _is_judged(self) -> bool:
        return self.early is not None and self._is_time(self.early.every_steps)


class Steps(transformers.TrainerCallback):  # type: ignore[misc]
    """Where the trainer tells us that something was done."""

    def __init__(self, trainer: OurRules) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.go_on()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = self.trainer.step_taken()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= self.trainer.course.is_over(self.trainer.early)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        """Carry the trainer's numbers to metrics.jsonl, under our names."""
        if "loss" in logs:
            run = self.trainer.run
            names = {**NAMES, **run.names}
            found = {ours: float(logs[theirs]) for theirs, ours in names.items() if theirs in logs}
            for name, value in found.items():
                must_be_finite(name, value, state)
            self.trainer.note = f"loss {found['loss']:.3f}"
            run.recorder.metrics(state.global_step, **found)


def share_gradients(model: Any) -> None:
    """Let ranks on one machine take the mean of their gradients in shared memory, as pretraining's do; not by gloo."""
    if not isinstance(model, DistributedDataParallel) or next(model.parameters()).device.type != "cpu":
        return
    shared = SharedMean.between_ranks(sum(each.numel() for each in model.parameters() if each.requires_grad))
    if shared is not None:
        model.register_comm_hook(shared, _mean)


def _mean(
    shared: SharedMean,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # torch looks for this very name, and mypy does not know it
) -> torch.futures.Future[torch.Tensor]:
    """What torch asks for each of the buckets it cuts gradients into, which are the same on every rank."""
    shared.take([bucket.buffer()])
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def must_be_finite(name: str, value: float, state: Any, *, ahead: int = 0) -> None:
    """Raise with the step's number; `ahead` is 1 while the step is being taken."""
    if not math.isfinite(value):
        raise WorkerFailed(
            f"expected a finite {name}, found {value} in step {state.global_step + ahead} of {state.max_steps}. "
            "Checkpoints before it are intact. Lower the learning rate, or train in fp32."
        )
