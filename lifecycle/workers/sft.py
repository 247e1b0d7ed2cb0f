"""Supervised fine-tuning with TRL: `-m lifecycle.workers.sft JOB_FOLDER`."""

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lifecycle.chat import examples
from lifecycle.chat.examples import Demonstration
from lifecycle.sealing import canonical
from lifecycle.stages.sft import SftJob
from lifecycle.training import adapters, apart, conversations, first_batch
from lifecycle.training.post import Tuned
from lifecycle.training.prepared import Prepared, prepare
from lifecycle.training.scoring import score_only_the_loss
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.contract import ContractScore
from lifecycle.workers.job import Recorder, rank, world_size
from lifecycle.workers.posttrain import Spoken
from lifecycle.workers.trainer import Inputs, OurRules, Run

PROBED = 4  # rows on which a merged adapter is compared, and what is laid out with what rows say


class Trainer(OurRules, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer under our rules, with our own batches and our own loss."""

    def learn(self, job: SftJob, train: Sequence[Demonstration], dev: Sequence[Demonstration], pad_id: int) -> None:
        """Take the rows; a copy of them in the trainer's own form is what TRL asks for, and is not read."""
        self.job, self.train_rows, self.pad_id = job, train, pad_id
        self.dev_rows = sorted(dev, key=lambda row: len(row.ids))

    def micro_batch(self, rows: list[int]) -> Inputs:
        return self._laid_out([self.train_rows[row] for row in rows])

    def _laid_out(self, rows: Sequence[Demonstration]) -> Inputs:
        match self.job.config.layout:
            case "padded":
                return conversations.padded(rows, pad_id=self.pad_id)
            case "packed":
                additive = self.model.config._attn_implementation == "eager"
                return conversations.packed(
                    rows, pad_id=self.pad_id, row_tokens=self.job.max_seq_len, additive=additive
                )
            case "padding_free":
                return conversations.padding_free(rows)

    @torch.no_grad()
    def check_first_batch(self) -> None:
        """Raise where what is laid out for the loss is not what the rows say: before the first step, not after it."""
        device = self.accelerator.device
        self.model.to(device).eval()

        def loss(inputs: Mapping[str, torch.Tensor]) -> float:
            moved = {name: value.to(device) for name, value in inputs.items()}
            log_probs = self.model(**moved, use_cache=False, fused_lm_head=True).log_probs
            return -float(log_probs.sum(dtype=torch.float64))

        exact = all(weight.dtype == torch.float32 for weight in self.model.parameters())
        lengths = self.run.lengths  # the shortest: if any two rows are packed into one, these are
        rows = [self.train_rows[row] for row in nsmallest(PROBED, range(len(lengths)), key=lengths.__getitem__)]
        first_batch.check(rows, self._laid_out, loss, exact=exact)
        self.model.train()

    def compute_loss(
        self, model: Any, inputs: Inputs, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Sum of -log p over the supervised tokens here, over their number in the whole step, of all ranks.

        Times the ranks, because gradients are averaged over them: micro batches and ranks with few supervised tokens
        weigh as little as they hold (a mean of means is what https://github.com/huggingface/trl/issues/2175 found).
        """
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        accuracy = outputs.is_top1.sum() / outputs.label_mask.sum()
        self._metrics["train"]["mean_token_accuracy"].append(accuracy.item())
        loss: torch.Tensor = (-outputs.log_probs).sum() / num_items_in_batch
        return loss * world_size()

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Mean -log p of the supervised tokens of all held-out rows, and how many of them are the first choice."""
        self.model.eval()
        size = self.args.per_device_eval_batch_size
        total = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        for start in range(rank() * size, len(self.dev_rows), world_size() * size):
            inputs = self._prepare_inputs(self._laid_out(self.dev_rows[start : start + size]))
            with self.accelerator.autocast():
                outputs = self.model(**inputs, use_cache=False, fused_lm_head=True)
            counted = (-outputs.log_probs, outputs.is_top1, outputs.label_mask)
            total += torch.stack([value.sum(dtype=torch.float64) for value in counted])
        if world_size() > 1:
            dist.all_reduce(total)
        self.model.train()
        loss, right, tokens = total.tolist()
        return {"loss": loss / tokens, "token_accuracy": right / tokens}

    def judge(self, step: int) -> float:
        """What early stopping goes by; lower is better."""
        assert self.early is not None
        measured = self.held_out()
        if self.early.metric == "contract":
            measured["contract"] = self.contract.share_right(self.accelerator.unwrap_model(self.model), step)
        self.run.recorder.metrics(step, **{f"dev/{name}": value for name, value in measured.items()})
        return -measured["contract"] if self.early.metric == "contract" else measured["loss"]


def train(job: SftJob, recorder: Recorder) -> Tuned:
    """Fine-tune the base model on every demonstration that fits, and leave a model folder in `out_dir`."""
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken = posttrain.load_protocol(job.base)
    shown, held = read(job.train_file, spoken, job), read(job.dev_file, spoken, job)
    trainer = build(job, spoken, shown, held.rows, recorder)
    trainer.check_first_batch()
    trainer.train()
    trainer.back_to_the_best()
    steps, heldout = trainer.state.global_step, trainer.held_out()
    recorder.metrics(steps, **{f"dev/{name}": value for name, value in heldout.items()})
    probe = conversations.padded(held.rows[:PROBED], pad_id=trainer.pad_id)["input_ids"]
    parameters, difference = posttrain.save(trainer, job.base, job.out_dir, probe)
    if job.config.lora:
        recorder.metrics(steps, merged_logits_difference=difference)
    return Tuned(
        parameters=parameters,
        steps=steps,
        tokens_seen=trainer.course.tokens,
        final_loss=trainer.course.final_loss(),
        supervised_share=round(shown.supervised_share(), 6),
        supervised_shares=shares_of(shown),
        dropped=shown.dropped,
        cut_rows=shown.cut,
        heldout=heldout,
    )


def shares_of(shown: Prepared) -> dict[str, float]:
    """Share of tokens in the loss by source, where there are several."""
    several = shown.sources if len(shown.sources) > 1 else []
    return {source: round(shown.supervised_share(source), 6) for source in sorted(several)}


def read(file: Path, spoken: Spoken, job: SftJob) -> Prepared:
    """The demonstrations of a file that fit, each with the ids the model's own chat template gives."""
    read = prepare(
        spoken.renderer,
        file,
        job.scratch_dir / f"{file.stem}-rows-{rank()}",
        max_seq_len=job.max_seq_len,
        too_long=job.config.too_long,
        also=spoken.same_as_template,
    )
    examples.most_rows_fit(
        read.dropped, len(read.rows), max_dropped_share=job.config.max_dropped_share, max_seq_len=job.max_seq_len
    )
    return read


def build(job: SftJob, spoken: Spoken, shown: Prepared, dev: Sequence[Demonstration], recorder: Recorder) -> Trainer:
    """TRL's trainer around the base model, under our rules."""
    config, lengths = job.config, [len(row.ids) for row in shown.rows]
    quantization = adapters.quantization(config.lora, config.precision)
    arguments = posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_rows, rows=len(lengths))
    attention = apart.NAME if config.layout == "padding_free" else config.attention
    trainer = Trainer(
        model=posttrain.load_model(job.base, attention, **quantization),
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=as_dataset(shown.rows[:1]),
        processing_class=spoken.wrapped,
        peft_config=adapters.adapter(config.lora),
    )
    score_only_the_loss(trainer.model)
    trainer.learn(job, shown.rows, dev, spoken.renderer.protocol.pad_id)
    posttrain.join_ranks()
    trainer.obey(
        Run(
            config=config,
            batch=config.batch_rows,
            lengths=lengths,
            tokens=lengths,
            recorder=recorder,
            names={"mean_token_accuracy": "token_accuracy"},
            opening={f"supervised_share/{source}": shown.supervised_share(source) for source in shown.sources},
            closing="dev/loss",
            checkpoints=job.scratch_dir / "checkpoints",
            made_by={**canonical(config), **job.inputs},
            layout={"layout": config.layout},
        ),
        config.early_stopping,
    )
    if config.early_stopping and config.early_stopping.metric == "contract":
        trainer.contract = ContractScore(job, spoken.renderer, config.early_stopping.rows)
    return trainer


def as_dataset(rows: Sequence[Demonstration]) -> Dataset:
    """Columns of the trainer: a label is its id where the loss counts, and IGNORED elsewhere."""
    labels = [
        [token if mask else conversations.IGNORED for token, mask in zip(row.ids, row.assistant_mask, strict=True)]
        for row in rows
    ]
    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": labels})


def in_its_own_process(job: SftJob, recorder: Recorder) -> Tuned:
    posttrain.deepspeed_or_not(job.config)
    return train(job, recorder)


if __name__ == "__main__":
    doorway.run(SftJob, in_its_own_process)
