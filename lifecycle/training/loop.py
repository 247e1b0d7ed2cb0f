"""The training loop: one step after another, each a function of its number, all ranks deciding alike."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist

from lifecycle.errors import Preempted, TrainingDiverged
from lifecycle.training.batches import Batches
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.distributed import loss_scale_after_overflow
from lifecycle.training.losses import next_token_loss, token_losses
from lifecycle.training.shared_memory import SharedMean
from lifecycle.training.stop import StopRequest
from lifecycle.training.watchdog import Action, Finding, Watchdog, after_overflow

VALIDATION = "validation_loss"


class Recorder(Protocol):
    """Where the loop tells what it sees (`workers.job.Recorder`)."""

    def metrics(self, step: int, **values: float) -> None: ...
    def progress(self, done: float, total: float, unit: str, note: str = "") -> None: ...
    def finding(self, step: int, rule: str, action: str, evidence: str) -> None: ...
    def resume_at(self, step: int, *, measured_after: str = "") -> None: ...
    def alive(self) -> None: ...


@dataclass(frozen=True)
class Intervals:
    """Every how many steps the loop does what is not training."""

    log: int
    save: int
    validate: int


class Course:
    """Where a run goes: which batch a step reads, and what the watchdog said on the way.

    A window of batches that was skipped moves all later ones up. Every step stays a pure function of its number and of
    the windows, which a checkpoint remembers.
    """

    def __init__(self) -> None:
        self.skipped: list[tuple[int, int]] = []
        """From which batch up to which one; apart from each other, and in order."""
        self.findings: Counter[str] = Counter()

    def batch_of(self, step: int) -> int:
        """The number of the batch that a step reads."""
        batch = step
        for begin, end in self.skipped:
            if batch >= begin:
                batch += end - begin
        return batch

    def skip(self, first_step: int, last_step: int) -> None:
        """Leave out the batches of these steps, and what was skipped between them; the steps read those behind."""
        begin, end = self.batch_of(first_step), self.batch_of(last_step) + 1
        apart = [window for window in self.skipped if not begin <= window[0] < end]
        self.skipped = sorted([*apart, (begin, end)])

    @property
    def skipped_batches(self) -> int:
        """How many were left out in all."""
        return sum(end - begin for begin, end in self.skipped)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold, as plain JSON."""
        return {"skipped": self.skipped, "findings": dict(self.findings)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        self.skipped = [(begin, end) for begin, end in state["skipped"]]
        self.findings = Counter(state["findings"])


class Training:
    """One run of the loop: what it trains, where it writes, and who watches."""

    def __init__(
        self,
        engine: Any,
        batches: Batches,
        checkpoints: Checkpoints,
        recorder: Recorder,
        watchdog: Watchdog,
        *,
        rate: Callable[[int], float],
        every: Intervals,
        stop: StopRequest,
        device: torch.device,
    ) -> None:
        """`rate` gives each step's learning rate."""
        self.engine, self.batches, self.checkpoints, self.recorder = engine, batches, checkpoints, recorder
        self.watchdog, self.rate, self.every, self.stop, self.device = watchdog, rate, every, stop, device
        self.course = Course()
        self.norm = math.nan
        self.shared = SharedMean.between_ranks(2) if device.type == "cpu" else None

    def run(self, steps: int) -> float:
        """Train to `steps` from the newest checkpoint that verifies, if there is one; the last validation loss.

        Raises Preempted after saving when any rank was asked to stop, TrainingDiverged when loss or gradient is not
        finite or the watchdog ends the run.
        """
        done = self._restore(*self.checkpoints.load_newest(self.engine))
        self.checkpoints.must_have_room(self.engine)
        self.recorder.resume_at(done, measured_after=VALIDATION)
        validation = math.nan
        if done:
            validation = self._validate_again(done, steps, validation)
        clock, since = time.monotonic(), done
        while done < steps:
            step = done
            loss, stopping = self._step(step)
            found = self.watchdog.after_step(step, loss)
            if found is not None and self._obey(found, step) == "roll_back":
                done = since = self._roll_back(step)
                validation = self._validate_again(done, steps, validation)
                clock = time.monotonic()
                continue
            done = step + 1
            if self._is_time(self.every.log, done, steps):
                self._log(done, loss, done - since, _since(clock))
                clock, since = time.monotonic(), done
            self.recorder.progress(done, steps, "steps", f"loss {loss:.3f}")
            paused = time.monotonic()
            # Saved before validating: memory that runs out in an evaluation must not cost the steps before it.
            if stopping or self._is_time(self.every.save, done, steps):
                self.checkpoints.save(self.engine, done, self._state())
                self.recorder.alive()
            if stopping and done < steps:
                raise Preempted(f"told to stop: saved after step {done} of {steps}. The same command goes on from it.")
            if self._is_time(self.every.validate, done, steps):
                validation = self._validate(done)
            clock += _since(paused)
        return validation

    @staticmethod
    def _is_time(every: int, done: int, steps: int) -> bool:
        return done % every == 0 or done == steps

    def _step(self, step: int) -> tuple[float, bool]:
        """Take one optimizer step; the loss of all ranks before it, and whether any of them was asked to stop."""
        batch, padding = self.course.batch_of(step), self.batches.padding
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.rate(step)
        local = torch.zeros((), device=self.device)
        micro_batches = 0
        for fed in self.batches.training(batch):
            fed = fed.to(self.device)
            logits_BTV = fed.logits(self.engine)
            micro_loss = next_token_loss(logits_BTV, fed.ids[:, 1:], padding)
            self.engine.backward(micro_loss)
            self.engine.step()  # steps the optimizer on the last micro batch only
            local += micro_loss.detach()
            micro_batches += 1
        loss, stopping = _agree(local / micro_batches, self.stop, self.shared)
        norm = float(self.engine.get_global_grad_norm())  # of the whole batch, the same on every rank
        if math.isfinite(loss) and (scale := loss_scale_after_overflow(self.engine)) is not None:
            self._obey(after_overflow(scale), step)
            return loss, stopping
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(_diverged(step, batch, loss, norm, float(local), self.batches))
        self.norm = norm
        return loss, stopping

    def _log(self, done: int, loss: float, steps: int, seconds: float) -> None:
        speed = steps * self.batches.batch_rows * self.batches.reader.max_seq_len / seconds
        rate = self.rate(done - 1)
        self.recorder.metrics(done, loss=loss, learning_rate=rate, grad_norm=self.norm, tokens_per_second=round(speed))
        if found := self.watchdog.after_log(speed, seconds):  # of this machine, not of this training: not counted
            self.recorder.finding(done, *found)

    def _validate(self, done: int) -> float:
        """The held-out loss, in all and by source; the sources' as bits per byte."""
        whole, by_source = validation_loss(self.engine, self.batches, self.device, alive=self.recorder.alive)
        bits = self.batches.reader.bits_per_byte(by_source)
        self.recorder.metrics(
            done, **{VALIDATION: whole}, **{f"bits_per_byte/{source}": value for source, value in bits.items()}
        )
        self.checkpoints.validated(done, whole)
        for found in self.watchdog.after_validation(by_source):
            self._record(found, done, found.evidence)
        return whole

    def _validate_again(self, done: int, steps: int, before: float) -> float:
        """A checkpoint is saved before it is validated: who goes on from it has that still to do."""
        return self._validate(done) if self._is_time(self.every.validate, done, steps) else before

    def _record(self, found: Finding, done: int, evidence: str) -> None:
        self.course.findings[found.rule] += 1
        self.recorder.finding(done, found.rule, found.action, evidence)

    def _obey(self, found: Finding, step: int) -> Action:
        """Put a finding on record, with the rows that were read; end the run if that is what it asks for."""
        rows = sorted(map(int, self.batches.row_ids(self.course.batch_of(step))))
        self._record(found, step + 1, f"{found.evidence}; rows {rows}")
        if found.action == "abort":
            raise TrainingDiverged(
                f"the watchdog ended the run in step {step + 1} by its rule {found.rule}: expected a run that learns, "
                f"found {found.evidence}. Checkpoints before it are intact; change the cause, or pretrain.watchdog."
            )
        return found.action

    def _roll_back(self, step: int) -> int:
        """Go back to before the spike and leave out all batches read since; the steps that are done then."""
        skipped = self.course.skipped
        done, state = self.checkpoints.roll_back(self.engine, at_most=self.watchdog.healthy_until(step))
        if done == 0:
            raise TrainingDiverged(
                f"expected a checkpoint from before the spike that ended in step {step + 1}, found none. Save more "
                "often or keep more (pretrain.save_every_steps, keep_checkpoints), or lower the learning rate."
            )
        findings = self.course.findings
        self._restore(done, state)
        self.course.skipped, self.course.findings = skipped, findings
        self.course.skip(done, step)
        self.recorder.resume_at(done, measured_after=VALIDATION)
        return done

    def _state(self) -> dict[str, Any]:
        return {"watchdog": self.watchdog.state(), "course": self.course.state()}

    def _restore(self, done: int, state: Mapping[str, Any]) -> int:
        if done:
            self.watchdog.restore(state["watchdog"])
            self.course.restore(state["course"])
        return done


@torch.no_grad()
def validation_loss(
    engine: Any, batches: Batches, device: torch.device, *, alive: Callable[[], None] = lambda: None
) -> tuple[float, dict[str, float]]:
    """Mean loss per predicted token over all held-out rows, in nats, and that of each source; equal on every rank.

    `alive` is told after each batch: a long validation is no hang.
    """
    engine.eval()
    names = batches.reader.validation_sources
    total = torch.zeros(2, dtype=torch.float64)
    by_source = torch.zeros(2, len(names) + 1, dtype=torch.float64)  # the last: tokens of no source
    for fed, weights_B, sources_BT in batches.validation():
        fed = fed.to(device)
        losses_BT = token_losses(fed.logits(engine), fed.ids[:, 1:]).cpu()
        losses_B = losses_BT.mean(dim=1, dtype=torch.float64)
        total += torch.stack([(losses_B * weights_B).sum(), weights_B.sum()])
        counted_BT = weights_B[:, None].expand_as(losses_BT)
        for row, values_BT in enumerate((losses_BT * counted_BT, counted_BT)):
            by_source[row] += torch.bincount(sources_BT[:, 1:].flatten(), values_BT.flatten().double(), len(names) + 1)
        alive()
    engine.train()
    total, by_source = total.to(device), by_source.to(device)
    dist.all_reduce(total)
    dist.all_reduce(by_source)
    sums_S, counts_S = by_source.tolist()
    return float(total[0] / total[1]), {
        name: sums_S[number] / counts_S[number] for number, name in enumerate(names) if counts_S[number]
    }


def _agree(loss: torch.Tensor, stop: StopRequest, shared: SharedMean | None) -> tuple[float, bool]:
    """The mean loss of all ranks, and whether any of them was asked to stop: one small message a step."""
    both = torch.stack([loss.float(), torch.tensor(float(stop.asked), device=loss.device)])
    if shared is not None:
        shared.take([both])
        return float(both[0]), float(both[1]) > 0
    dist.all_reduce(both)
    return float(both[0]) / dist.get_world_size(), float(both[1]) > 0


def _diverged(step: int, batch: int, loss: float, norm: float, local: float, batches: Batches) -> str:
    """Which rows were in the batch; of the ranks whose own loss is not finite, if it is not the gradient alone."""
    bad = torch.zeros(batches.ranks)
    bad[batches.rank] = float(not math.isfinite(local))
    if dist.get_backend() == "nccl":
        bad = bad.cuda()
    dist.all_reduce(bad)
    ranks = [rank for rank in range(batches.ranks) if bad[rank] > 0] or list(range(batches.ranks))
    rows = sorted(int(row) for rank in ranks for row in batches.row_ids(batch)[rank :: batches.ranks])
    return (
        f"expected a finite loss and gradient in step {step}, found loss {loss} and gradient norm {norm}. The batch "
        f"held training rows {rows} (rank {', '.join(map(str, ranks))}). Lower learning_rate or look at these rows; "
        "earlier checkpoints are intact."
    )


def _since(moment: float) -> float:
    return max(1e-9, time.monotonic() - moment)
