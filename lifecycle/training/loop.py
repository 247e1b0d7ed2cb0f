"""The training loop: one step after another, each a function of its number, all ranks deciding alike."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
import torch.distributed as dist

from lifecycle.errors import Preempted, TrainingDiverged
from lifecycle.training.batches import Batches
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.losses import next_token_loss, row_losses


class Recorder(Protocol):
    """Where the loop tells what it sees (`workers.job.Recorder`)."""

    def metrics(self, step: int, **values: float) -> None: ...
    def progress(self, done: float, total: float, unit: str, note: str = "") -> None: ...


class StopRequest:
    """Remembers a SIGTERM until the loop asks; a second one changes nothing, so a save is never cut in half."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> "StopRequest":
        signal.signal(signal.SIGTERM, self._hear)
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


@dataclass(frozen=True)
class Intervals:
    """Every how many steps the loop does what is not training."""

    log: int
    save: int
    validate: int


def train_steps(
    engine: Any,
    batches: Batches,
    checkpoints: Checkpoints,
    recorder: Recorder,
    *,
    steps: range,
    rate: Callable[[int], float],
    every: Intervals,
    stop: StopRequest,
    device: torch.device,
) -> float:
    """Train on `steps` and return the validation loss after the last. `rate` gives each step's learning rate.

    Raises Preempted after saving when any rank was asked to stop, TrainingDiverged when loss or gradient is not finite.
    """
    clock, since, validation = time.monotonic(), steps.start, math.nan
    padding = batches.padding
    for step in steps:
        for group in engine.optimizer.param_groups:
            group["lr"] = rate(step)
        local = torch.zeros((), device=device)
        micro_batches = 0
        for rows_BT in batches.training(step):
            rows_BT = rows_BT.to(device, non_blocking=True)
            # The last token of a row has no label: it is not fed at all.
            logits_BTV = engine(input_ids=rows_BT[:, :-1], use_cache=False).logits
            micro_loss = next_token_loss(logits_BTV, rows_BT[:, 1:], padding)
            engine.backward(micro_loss)
            engine.step()  # steps the optimizer on the last micro batch only
            local += micro_loss.detach()
            micro_batches += 1
        loss, stopping = _agree(local / micro_batches, stop)
        norm = float(engine.get_global_grad_norm())  # of the whole batch, the same on every rank
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(_diverged(step, loss, norm, float(local), batches))
        done = step + 1
        last = done == steps.stop
        if done % every.log == 0 or last:
            tokens_per_second = (done - since) * batches.batch_rows * batches.reader.max_seq_len / _since(clock)
            clock, since = time.monotonic(), done
            recorder.metrics(
                done, loss=loss, learning_rate=rate(step), grad_norm=norm, tokens_per_second=round(tokens_per_second)
            )
        recorder.progress(done, steps.stop, "steps", f"loss {loss:.3f}")
        # Saved before validating: memory that runs out in an evaluation must not cost the steps before it.
        if done % every.save == 0 or last or stopping:
            paused = time.monotonic()
            checkpoints.save(engine, done)
            clock += _since(paused)
        if stopping and not last:
            raise Preempted(f"told to stop: saved after step {done} of {steps.stop}. The same command goes on from it.")
        if done % every.validate == 0 or last:
            paused = time.monotonic()
            validation = validation_loss(engine, batches, device)
            recorder.metrics(done, validation_loss=validation)
            clock += _since(paused)
    return validation if len(steps) else validation_loss(engine, batches, device)


@torch.no_grad()
def validation_loss(engine: Any, batches: Batches, device: torch.device) -> float:
    """Mean loss per predicted token over all held-out rows, in nats, the same on every rank."""
    engine.eval()
    total = torch.zeros(2, dtype=torch.float64)
    for rows_BT, weights_B in batches.validation():
        rows_BT = rows_BT.to(device, non_blocking=True)
        losses_B = row_losses(engine(input_ids=rows_BT[:, :-1], use_cache=False).logits, rows_BT[:, 1:]).cpu()
        total += torch.stack([(losses_B * weights_B).sum(), weights_B.sum()])
    engine.train()
    total = total.to(device)
    dist.all_reduce(total)
    return float(total[0] / total[1])


def _agree(loss: torch.Tensor, stop: StopRequest) -> tuple[float, bool]:
    """The mean loss of all ranks, and whether any of them was asked to stop: one small message a step."""
    both = torch.stack([loss.float(), torch.tensor(float(stop.asked), device=loss.device)])
    dist.all_reduce(both)
    return float(both[0]) / dist.get_world_size(), float(both[1]) > 0


def _diverged(step: int, loss: float, norm: float, local: float, batches: Batches) -> str:
    """Which rows were in the batch; of the ranks whose own loss is not finite, if it is not the gradient alone."""
    bad = torch.zeros(batches.ranks)
    bad[batches.rank] = float(not math.isfinite(local))
    if dist.get_backend() == "nccl":
        bad = bad.cuda()
    dist.all_reduce(bad)
    ranks = [rank for rank in range(batches.ranks) if bad[rank] > 0] or list(range(batches.ranks))
    rows = sorted(int(row) for rank in ranks for row in batches.row_ids(step)[rank :: batches.ranks])
    return (
        f"expected a finite loss and gradient in step {step}, found loss {loss} and gradient norm {norm}. The batch "
        f"held training rows {rows} (rank {', '.join(map(str, ranks))}). Lower learning_rate or look at these rows; "
        "earlier checkpoints are intact."
    )


def _since(moment: float) -> float:
    return max(1e-9, time.monotonic() - moment)
