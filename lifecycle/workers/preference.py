"""Preferences learned with TRL's trainer as the frame and our losses: `-m lifecycle.workers.preference JOB_FOLDER`."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from lifecycle.chat.examples import Compared, Comparison
from lifecycle.errors import WorkerFailed
from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.training import adapters, pairs, reference
from lifecycle.training.losses_preference import REFERENCE_FREE, PairLogProbs, Pairs, kto_kl, loss, rewards
from lifecycle.training.pairs import Asked
from lifecycle.training.post import EarlyStopping, Tuned
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.drift import DriftWatch
from lifecycle.workers.job import Recorder, rank, world_size
from lifecycle.workers.pairs import both_answers, probe, read_both, run_of, tuned, with_others
from lifecycle.workers.posttrain import Spoken
from lifecycle.workers.trainer import Inputs, OurRules

NAMES = ("reward_accuracy", "reward_margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected")
METRICS = {**{name: name for name in NAMES}, "num_tokens": "tokens"}
FAULTY = 1e9  # what a step is judged that broke a rule: never the best


class Trainer(OurRules, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer under our rules, with our own batches, our own losses and sealed log-probs of the reference."""

    def learn(self, job: PreferenceJob, train: Sequence[Comparison], held: Sequence[Comparison], pad_id: int) -> None:
        """Take the rows; a copy of one in the trainer's own form is what TRL asks for, and is not read."""
        self.job, self.config, self.pad_id = job, job.config, pad_id
        self.watch: DriftWatch | None = None
        self.watched: dict[str, float] = {}
        self.train_rows, self.held_rows = train, sorted(held, key=lambda row: row.length)
        self.train_pairs, self.held_pairs = both_answers(self.train_rows), both_answers(self.held_rows)
        self.others = with_others(train, job.max_seq_len) if job.config.method == "kto" else []
        self.references: dict[str, Tensor] = {}

    def refer(self) -> None:
        """Get the reference's log-probs: those of the model as it is now, before the first step."""
        wanted = {"held": self.held_pairs} if self.held_pairs else {}
        if self.config.method not in REFERENCE_FREE:
            wanted["train"] = self.train_pairs
        if self.others:
            wanted["others"] = self.others
        attention = self.model.config._attn_implementation
        circumstances = (self.job.inputs.get("sft", ""), self.config.precision, attention)
        for name, asked in wanted.items():
            key = reference.key_of(asked, *circumstances)
            kept = self.job.references is not None and "sft" in self.job.inputs
            file = self.job.references / f"{key[:32]}.safetensors" if kept and self.job.references else None
            values, was_read = reference.reference(asked, self._now, file, key, precision=self.config.precision)
            if file is not None and not was_read and rank() == 0:
                reference.seal(file, key, values)
            self.references[name] = values

    @torch.no_grad()
    def _now(self, asked: Sequence[Asked]) -> Tensor:
        """log p of answers by the model as it is, outside of any wrapper."""
        self.model.to(self.accelerator.device).eval()
        with self._as_trained():
            sums, _ = pairs.log_probs(self.model, self._prepare_inputs(pairs.padded(asked, pad_id=self.pad_id)))
        self.model.train()
        return sums

    def _as_trained(self) -> torch.autocast:
        """The precision of training, for the model without its wrappers."""
        is_bf16 = self.config.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=is_bf16)

    def micro_batch(self, rows: list[int]) -> Inputs:
        inputs = {**self._laid_out([self.train_pairs[row] for row in rows]), "rows": torch.tensor(rows)}
        tokens = sum(len(self.train_rows[row].chosen_ids) for row in self.rows_of_step)
        inputs["chosen_tokens"] = tokens * len(rows) / len(self.rows_of_step)
        if self.others:
            inputs["others"] = pairs.padded([self.others[row] for row in rows], pad_id=self.pad_id)
        return inputs

    def _laid_out(self, asked: Sequence[Asked]) -> Inputs:
        if self.config.layout == "padded":
            return pairs.padded(asked, pad_id=self.pad_id)
        additive = self.model.config._attn_implementation == "eager"
        return pairs.side_by_side(asked, pad_id=self.pad_id, additive=additive)

    def compute_loss(
        self, model: Any, inputs: Inputs, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The mean over the pairs here. Micro batches and ranks hold equally many, so a step's is the mean of means.

        Chosen tokens they hold more or fewer of: their -log p is divided by the step's, this many pairs' share of them.
        """
        rows, others, chosen_tokens = inputs.pop("rows").cpu(), inputs.pop("others", None), inputs.pop("chosen_tokens")
        kl = self._kl(model, rows, others) if others is not None else None
        batch = self._scored(model, inputs, self.references.get("train"), rows, kl)
        total = self._losses(batch).mean()
        if weight := self.config.chosen_nll_weight:
            total = total - weight * batch.policy.chosen.sum() / chosen_tokens
        self._note(batch)
        return total

    def _scored(
        self, model: Any, inputs: Inputs, before: Tensor | None, rows: Tensor, kl: Tensor | None = None
    ) -> Pairs:
        sums, tokens = pairs.log_probs(model, inputs)
        known = None if before is None else PairLogProbs(*before[rows].to(sums.device).unbind(1))
        return Pairs(PairLogProbs(*sums.unbind(1)), PairLogProbs(*tokens.unbind(1)), known, kl)

    def _losses(self, batch: Pairs) -> Tensor:
        return loss(self.config.method, batch, beta=self.config.beta, margin=self.config.margin)

    @torch.no_grad()
    def _kl(self, model: Any, rows: Tensor, others: Inputs) -> Tensor:
        """KTO's z0, over the pairs of all ranks."""
        sums, _ = pairs.log_probs(model, others)
        policy_B, known_B = sums[:, 0], self.references["others"][rows, 0].to(sums.device)
        return kto_kl(self.accelerator.gather(policy_B), self.accelerator.gather(known_B))

    def _note(self, batch: Pairs) -> None:
        """Keep a batch's numbers for the log."""
        values = _numbers(batch, self.config)
        if world_size() > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        for name, value in zip(NAMES, values.tolist(), strict=True):
            self._metrics["train"][name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self._metrics["train"]["num_tokens"] = [float(self.course.tokens)]
        super().log(logs, start_time)

    @torch.no_grad()
    def held_out(self) -> tuple[dict[str, float], Tensor, Tensor]:
        """The mean of every number over held-out pairs; the margin of each, and how its chosen answer moved a token."""
        self.model.eval()
        micro, found = self.args.per_device_eval_batch_size, []
        for start in range(0, len(self.held_pairs), micro):
            inputs = self._prepare_inputs(self._laid_out(self.held_pairs[start : start + micro]))
            rows = torch.arange(start, min(start + micro, len(self.held_pairs)))
            with self._as_trained():
                batch = self._scored(self.model, inputs, self.references["held"], rows, self._no_kl())
            worth = rewards(self.config.method, batch, beta=self.config.beta)
            moved_B, tokens_B = batch.log_ratios().chosen / batch.tokens.chosen, batch.tokens.chosen
            numbers = _numbers(batch, self.config)[:, None].expand(-1, len(rows))
            margins_B = worth.chosen - worth.rejected
            found.append(torch.cat([torch.stack([margins_B, moved_B, tokens_B, self._losses(batch)]), numbers]).cpu())
        self.model.train()
        table = torch.cat(found, 1).double()
        _, _, tokens, *numbers_of_all = table.mean(1).tolist()
        means = dict(zip(("loss", *NAMES), numbers_of_all, strict=True))
        means["loss"] -= self.config.chosen_nll_weight * means["logprob_chosen"] / tokens
        return means, table[0], table[1]

    def _no_kl(self) -> Tensor | None:
        return torch.zeros((), device=self.accelerator.device) if self.config.method == "kto" else None

    def go_on(self) -> None:
        super().go_on()
        if self.watch is not None and self.state.global_step == 0:
            self.course.drift = self._drift(0)

    def _drift(self, step: int) -> dict[str, float]:
        assert self.watch is not None
        means, margins, moved = self.held_out()
        # With the wrapper that computes in bf16: accelerate takes it off the model itself, which is trained on.
        model = self.accelerator.unwrap_model(self.model)
        return {**self.watch.measure(model, step, margins.tolist(), moved.tolist()), "heldout_loss": means["loss"]}

    def judge(self, step: int) -> float:
        """What the best step goes by: contract score, or held-out loss. Lower is better; of equals the later one."""
        assert self.watch is not None
        measured = self.watched = self._drift(step)
        if broken := self.watch.broken(self.course.drift, measured):
            self.run.recorder.finding(step, *broken)
            said = f"{broken.rule} after step {step} of {self.state.max_steps}: {broken.evidence}"
            if broken.action == "refuse":
                raise WorkerFailed(f"expected pairs that agree with each other, found {said}. Look at the labels.")
            self.course.stopped = said
            return FAULTY
        value = -measured["contract"] if "contract" in measured else measured["heldout_loss"]
        return value - 1e-9 * step

    def back_to_the_best(self) -> None:
        """Where a rule ended the training, take the weights of the best step that broke none."""
        stopped = self.course.stopped
        if not stopped:
            return
        if min(value for _, value in self.course.judged) >= FAULTY:
            raise WorkerFailed(
                f"expected a step that keeps the rules of preference.drift, found {stopped}, and none before it was "
                "measured. Nothing is kept; lower preference.learning_rate, or measure more often (drift.every_steps)."
            )
        super().back_to_the_best()
        self.course.stopped = stopped

    def conclude(self) -> dict[str, float]:
        """How far the model that is kept has moved, and the evidence beside it; {} where nobody watches."""
        if self.watch is None:
            return {}
        step = self.state.global_step
        if self.watch.measured_at != step:  # it went back to the best step, or on from a checkpoint of its last one
            self.watched = self._drift(step)
        if rank() == 0:
            self.watch.write(self.job.out_dir)
        return self.watched

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Rows come with ids; tokenising again costs seconds, and could come out different."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        """Nothing: `refer` has them, once for every run of a store."""
        return dataset


def train(job: PreferenceJob, recorder: Recorder) -> Tuned:
    """Align the SFT model with every comparison that fits, and leave a model folder in `out_dir`."""
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken = posttrain.load_protocol(job.sft)
    compared, held = read_both(job, spoken)
    trainer = build(job, spoken, compared, held.rows, recorder)
    trainer.train()
    trainer.back_to_the_best()
    steps = trainer.state.global_step
    heldout, *_ = trainer.held_out()
    recorder.metrics(steps, **{f"heldout/{name}": value for name, value in heldout.items()})
    drift = trainer.conclude()
    parameters, difference = posttrain.save(trainer, job.sft, job.out_dir, probe(held.rows))
    if job.config.lora:
        recorder.metrics(steps, merged_logits_difference=difference)
    stopped = trainer.course.stopped.partition(" ")[0]
    findings = {stopped: 1} if stopped else {}
    return tuned(trainer, compared, parameters=parameters, heldout=heldout, drift=drift, findings=findings)


def build(
    job: PreferenceJob, spoken: Spoken, compared: Compared, heldout: Sequence[Comparison], recorder: Recorder
) -> Trainer:
    """TRL's trainer around the SFT model, which is its own reference: what it gives now, before the first step."""
    config, train = job.config, compared.rows
    quantization = adapters.quantization(config.lora, config.precision)
    arguments = posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_pairs, rows=len(train))
    trainer = Trainer(
        model=posttrain.load_model(job.sft, config.attention, **quantization),
        args=DPOConfig(**arguments, precompute_ref_log_probs=True),
        train_dataset=as_dataset(train[:1]),
        processing_class=spoken.wrapped,
        peft_config=adapters.adapter(config.lora),
    )
    pairs.score_answers(trainer.model)
    trainer.learn(job, train, heldout, spoken.renderer.protocol.pad_id)
    posttrain.join_ranks()
    trainer.refer()
    trainer.obey(
        run_of(
            job, config, compared, recorder, names=METRICS, closing="heldout/loss", layout={"layout": config.layout}
        ),
        # Drift is judged by its own rules: patience beyond any number of steps.
        EarlyStopping(every_steps=config.drift.every_steps, patience=10**9) if config.drift else None,
    )
    if config.drift:
        trainer.watch = DriftWatch(job, config.drift, spoken.renderer, trainer.held_pairs, recorder)
    return trainer


def as_dataset(rows: Sequence[Comparison]) -> Dataset:
    """Columns of the trainer."""
    return Dataset.from_dict(
        {
            "prompt_ids": [row.prompt_ids for row in rows],
            "chosen_ids": [row.chosen_ids for row in rows],
            "rejected_ids": [row.rejected_ids for row in rows],
        }
    )


def _numbers(batch: Pairs, config: PreferenceConfig) -> Tensor:
    """The means of a batch, in the order of NAMES."""
    worth = rewards(config.method, batch, beta=config.beta)
    won_B = (worth.chosen > worth.rejected).float()
    columns = (won_B, worth.chosen - worth.rejected, *worth, *batch.policy)
    return torch.stack([column.detach().float().mean() for column in columns])


def in_its_own_process(job: PreferenceJob, recorder: Recorder) -> Tuned:
    posttrain.deepspeed_or_not(job.config)
    return train(job, recorder)


if __name__ == "__main__":
    doorway.run(PreferenceJob, in_its_own_process)
