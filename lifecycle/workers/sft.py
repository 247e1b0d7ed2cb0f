"""Supervised fine-tuning with TRL: `-m lifecycle.workers.sft JOB_FOLDER`."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lifecycle.chat import examples
from lifecycle.chat.examples import Demonstrated, Demonstration
from lifecycle.data.jsonl import load_rows
from lifecycle.stages.sft import SftJob
from lifecycle.training.post import Tuned
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.job import Recorder
from lifecycle.workers.posttrain import OurRules, Spoken

IGNORED = -100  # torch's name for a label outside the loss


class Trainer(OurRules, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer under our rules."""


def train(job: SftJob, recorder: Recorder) -> Tuned:
    """Fine-tune the base model on every demonstration that fits, and leave a model folder in `out_dir`."""
    recorder.resume_at(-1)
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken = posttrain.load_protocol(job.base)
    shown, held = read(job.train_file, spoken, job), read(job.dev_file, spoken, job)
    recorder.metrics(0, **{f"supervised_share/{source}": shown.supervised_share(source) for source in shown.sources})
    trainer = build(job, spoken, shown.rows, sorted(held.rows, key=lambda row: len(row.ids)), recorder)
    trainer.train()
    steps = trainer.state.global_step
    measured = trainer.evaluate()
    heldout = {"loss": measured["eval_loss"], "token_accuracy": measured["eval_mean_token_accuracy"]}
    recorder.metrics(steps, **{f"dev/{name}": value for name, value in heldout.items()})
    return Tuned(
        parameters=posttrain.save(trainer, job.base, job.out_dir),
        steps=steps,
        tokens_seen=trainer.tokens_seen(),
        final_loss=trainer.final_loss(),
        supervised_share=round(shown.supervised_share(), 6),
        dropped=shown.dropped,
        heldout=heldout,
    )


def read(file: Path, spoken: Spoken, job: SftJob) -> Demonstrated:
    """The demonstrations of a file that fit, each with the ids the model's own chat template gives."""
    read = examples.demonstrations(
        spoken.tokenizer, load_rows(file), max_seq_len=job.max_seq_len, also=spoken.same_as_template
    )
    examples.most_rows_fit(
        read.dropped, len(read.rows), max_dropped_share=job.config.max_dropped_share, max_seq_len=job.max_seq_len
    )
    return read


def build(
    job: SftJob, spoken: Spoken, train: Sequence[Demonstration], dev: Sequence[Demonstration], recorder: Recorder
) -> Trainer:
    """TRL's trainer around the base model. Our rows bring labels, so that it neither tokenises nor masks."""
    config = job.config
    arguments = posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_rows, rows=len(train))
    trainer = Trainer(
        model=posttrain.load_model(job.base),
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=as_dataset(train),
        eval_dataset=as_dataset(dev),
        processing_class=spoken.wrapped,
        peft_config=posttrain.lora(config.lora),
        callbacks=[posttrain.Watch(recorder, {"mean_token_accuracy": "token_accuracy", "num_tokens": "tokens"})],
    )
    posttrain.score_only_the_loss(trainer.model)
    trainer.obey(config, config.batch_rows, [len(row.ids) for row in train])
    return trainer


def as_dataset(rows: Sequence[Demonstration]) -> Dataset:
    """Columns of the trainer: a label is its id where the loss counts, and IGNORED elsewhere."""
    labels = [
        [token if mask else IGNORED for token, mask in zip(row.ids, row.assistant_mask, strict=True)] for row in rows
    ]
    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": labels})


if __name__ == "__main__":
    posttrain.leave_out_deepspeed()
    doorway.run(SftJob, train)
