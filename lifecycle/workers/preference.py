"""Direct preference optimisation with TRL: `-m lifecycle.workers.preference JOB_FOLDER`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from lifecycle.chat import examples
from lifecycle.chat.examples import Compared, Comparison
from lifecycle.data.jsonl import load_rows
from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.training.post import Tuned
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.job import Recorder
from lifecycle.workers.posttrain import OurRules, Spoken

METRICS = {
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logprob_chosen",
    "logps/rejected": "logprob_rejected",
    "num_tokens": "tokens",
}
"""TRL's name -> ours. A reward is beta * (log-prob now - log-prob of the reference)."""


class Trainer(OurRules, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer under our rules; its rows come rendered, and the reference's log-probs stay in memory."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Rows come with ids; tokenising again costs seconds, and could come out different."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """`dataset` with the log-probs of both answers under the model as it is before the first step.

        TRL hands them over in a temporary Arrow file that only one rank can see; here each rank computes all of them.
        """
        if name == "train":  # called for the training rows first, once TRL's own head is in place
            posttrain.score_only_the_loss(self.model)
        columns: dict[str, list[float]] = {"ref_chosen_logps": [], "ref_rejected_logps": []}
        for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator):
            on_device = {key: value.to(self.accelerator.device) for key, value in batch.items()}
            for column, values in zip(columns.values(), self.compute_ref_log_probs(self.model, on_device), strict=True):
                column.extend(values.tolist())
        for key, column in columns.items():
            dataset = dataset.add_column(key, column)
        return dataset


def train(job: PreferenceJob, recorder: Recorder) -> Tuned:
    """Align the SFT model with every comparison that fits, and leave a model folder in `out_dir`."""
    recorder.resume_at(-1)
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken = posttrain.load_protocol(job.sft)
    compared, held = read(job.train_file, spoken, job), read(job.heldout_file, spoken, job)
    recorder.metrics(0, supervised_share=compared.supervised_share)
    trainer = build(job, spoken, compared.rows, sorted(held.rows, key=lambda row: row.length), recorder)
    trainer.train()
    steps = trainer.state.global_step
    measured = trainer.evaluate()
    heldout = {ours: measured[f"eval_{theirs}"] for theirs, ours in METRICS.items() if f"eval_{theirs}" in measured}
    heldout = {"loss": measured["eval_loss"], **heldout}
    heldout.pop("tokens", None)
    recorder.metrics(steps, **{f"heldout/{name}": value for name, value in heldout.items()})
    return Tuned(
        parameters=posttrain.save(trainer, job.sft, job.out_dir),
        steps=steps,
        tokens_seen=trainer.tokens_seen(),
        final_loss=trainer.final_loss(),
        supervised_share=round(compared.supervised_share, 6),
        dropped=compared.dropped,
        heldout=heldout,
    )


def read(file: Path, spoken: Spoken, job: PreferenceJob) -> Compared:
    """The comparisons of a file that fit, each with the ids the model's own chat template gives."""
    read = examples.comparisons(
        spoken.tokenizer, load_rows(file), max_seq_len=job.max_seq_len, also=spoken.same_as_template
    )
    examples.most_rows_fit(
        read.dropped, len(read.rows), max_dropped_share=job.config.max_dropped_share, max_seq_len=job.max_seq_len
    )
    return read


def build(
    job: PreferenceJob, spoken: Spoken, train: Sequence[Comparison], heldout: Sequence[Comparison], recorder: Recorder
) -> Trainer:
    """TRL's trainer around the SFT model, which is its own reference: what it gives now, before the first step."""
    config = job.config
    arguments = posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_pairs, rows=len(train))
    trainer = Trainer(
        model=posttrain.load_model(job.sft),
        args=DPOConfig(**arguments, **losses(config), beta=config.beta, precompute_ref_log_probs=True),
        train_dataset=as_dataset(train),
        eval_dataset=as_dataset(heldout),
        processing_class=spoken.wrapped,
        peft_config=posttrain.lora(config.lora),
        callbacks=[posttrain.Watch(recorder, METRICS)],
    )
    trainer.obey(config, config.batch_pairs, [row.length for row in train])
    return trainer


def losses(config: PreferenceConfig) -> dict[str, Any]:
    """TRL's names of the terms of the loss, and their weights."""
    if not config.chosen_nll_weight:
        return {"loss_type": ["sigmoid"]}
    return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, config.chosen_nll_weight]}


def as_dataset(rows: Sequence[Comparison]) -> Dataset:
    """Columns of the trainer."""
    return Dataset.from_dict(
        {
            "prompt_ids": [row.prompt_ids for row in rows],
            "chosen_ids": [row.chosen_ids for row in rows],
            "rejected_ids": [row.rejected_ids for row in rows],
        }
    )


if __name__ == "__main__":
    posttrain.leave_out_deepspeed()
    doorway.run(PreferenceJob, train)
