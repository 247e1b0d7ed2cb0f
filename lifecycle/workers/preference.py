"""Direct preference optimisation with TRL: `-m lifecycle.workers.preference JOB_FOLDER`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from lifecycle.chat import examples
from lifecycle.chat.examples import Compared, Comparison, Demonstration
from lifecycle.data.jsonl import load_rows
from lifecycle.sealing import canonical
from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.training import adapters, conversations
from lifecycle.training.post import Tuned
from lifecycle.training.scoring import score_only_the_loss
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.job import Recorder
from lifecycle.workers.posttrain import Spoken
from lifecycle.workers.trainer import OurRules, Run

PROBED = 4  # held-out pairs on whose better answer a merged adapter is compared
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
            score_only_the_loss(self.model)
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
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken = posttrain.load_protocol(job.sft)
    compared, held = read(job.train_file, spoken, job), read(job.heldout_file, spoken, job)
    trainer = build(job, spoken, compared, sorted(held.rows, key=lambda row: row.length), recorder)
    trainer.train()
    steps = trainer.state.global_step
    measured = trainer.evaluate()
    heldout = {ours: measured[f"eval_{theirs}"] for theirs, ours in METRICS.items() if f"eval_{theirs}" in measured}
    heldout = {"loss": measured["eval_loss"], **heldout}
    heldout.pop("tokens", None)
    recorder.metrics(steps, **{f"heldout/{name}": value for name, value in heldout.items()})
    probe = conversations.padded([chosen(row) for row in held.rows[:PROBED]], pad_id=0)["input_ids"]
    parameters, difference = posttrain.save(trainer, job.sft, job.out_dir, probe)
    if job.config.lora:
        recorder.metrics(steps, merged_logits_difference=difference)
    return Tuned(
        parameters=parameters,
        steps=steps,
        tokens_seen=trainer.course.tokens,
        final_loss=trainer.course.final_loss(),
        supervised_share=round(compared.supervised_share, 6),
        dropped=compared.dropped,
        heldout=heldout,
    )


def read(file: Path, spoken: Spoken, job: PreferenceJob) -> Compared:
    """The comparisons of a file that fit, each with the ids the model's own chat template gives."""
    read = examples.comparisons(
        spoken.renderer, load_rows(file), max_seq_len=job.max_seq_len, also=spoken.same_as_template
    )
    examples.most_rows_fit(
        read.dropped, len(read.rows), max_dropped_share=job.config.max_dropped_share, max_seq_len=job.max_seq_len
    )
    return read


def chosen(pair: Comparison) -> Demonstration:
    """The conversation with the better answer."""
    mask = [0] * len(pair.prompt_ids) + [1] * len(pair.chosen_ids)
    return Demonstration("", [*pair.prompt_ids, *pair.chosen_ids], mask)


def build(
    job: PreferenceJob, spoken: Spoken, compared: Compared, heldout: Sequence[Comparison], recorder: Recorder
) -> Trainer:
    """TRL's trainer around the SFT model, which is its own reference: what it gives now, before the first step."""
    config, train = job.config, compared.rows
    quantization = adapters.quantization(config.lora)
    arguments = posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_pairs, rows=len(train))
    trainer = Trainer(
        model=posttrain.load_model(job.sft, config.attention, **quantization),
        args=DPOConfig(**arguments, **losses(config), beta=config.beta, precompute_ref_log_probs=True),
        train_dataset=as_dataset(train),
        eval_dataset=as_dataset(heldout),
        processing_class=spoken.wrapped,
        peft_config=adapters.adapter(config.lora),
    )
    posttrain.join_ranks()
    trainer.obey(
        Run(
            config=config,
            batch=config.batch_pairs,
            lengths=[row.length for row in train],
            tokens=[2 * len(row.prompt_ids) + len(row.chosen_ids) + len(row.rejected_ids) for row in train],
            recorder=recorder,
            names=METRICS,
            opening={"supervised_share": compared.supervised_share},
            closing="heldout/loss",
            checkpoints=job.scratch_dir / "checkpoints",
            made_by={**canonical(config), **job.inputs},
            layout={},
        )
    )
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


def in_its_own_process(job: PreferenceJob, recorder: Recorder) -> Tuned:
    posttrain.deepspeed_or_not(job.config)
    return train(job, recorder)


if __name__ == "__main__":
    doorway.run(PreferenceJob, in_its_own_process)
