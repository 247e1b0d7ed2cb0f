"""Pretraining, one process per rank: `-m lifecycle.workers.pretrain JOB_FOLDER`, started by torch.distributed.run."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from transformers.generation.configuration_utils import GenerationConfig

from lifecycle.data.shard_reader import ShardReader
from lifecycle.model.network import network
from lifecycle.stages.pretrain import PretrainConfig, PretrainJob, PretrainResult
from lifecycle.training import distributed
from lifecycle.training.batches import Batches
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.loop import Intervals, StopRequest, Training
from lifecycle.training.schedule import learning_rate
from lifecycle.training.watchdog import Watchdog
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder


def train(job: PretrainJob, recorder: Recorder) -> PretrainResult:
    """Train to the horizon, from the newest verified checkpoint if there is one, and write the model folder."""
    stop = StopRequest().listen()
    distributed.start_process_group()
    config, device = job.config, distributed.device()
    batches = Batches(
        ShardReader(job.shards_dir),
        batch_rows=config.batch_rows,
        micro_batch_rows=config.rows_at_once,
        seed=config.seed,
        rank=dist.get_rank(),
        ranks=dist.get_world_size(),
        workers=config.loader_threads,
    )
    engine = start_engine(job)
    steps = config.steps(job.max_seq_len)
    training = Training(
        engine,
        batches,
        Checkpoints(
            job.scratch_dir / "checkpoints",
            keep=config.keep_checkpoints,
            made_by=must_agree(job, dist.get_world_size()),
        ),
        recorder,
        Watchdog(
            config.watchdog,
            vocab_size=job.vocab_size,
            unigram_nats=batches.reader.unigram_nats(),
            steps=steps,
            warmup_steps=config.warmup_steps,
        ),
        rate=lambda step: rate(config, step, steps),
        every=Intervals(log=config.log_every_steps, save=config.save_every_steps, validate=config.validate_every_steps),
        stop=stop,
        device=device,
    )
    validation_loss = training.run(steps)
    write_model(engine, job)
    return PretrainResult(
        parameters=config.model.parameters(job.vocab_size, job.max_seq_len),
        steps=steps,
        validation_loss=validation_loss,
        findings=dict(training.course.findings),
        skipped_batches=training.course.skipped_batches,
    )


def start_engine(job: PretrainJob) -> Any:
    """A DeepSpeed engine around a fresh model and torch's AdamW, fused: 0.7 ms a step, its loop takes 3.6."""
    config = job.config
    model = network(
        config.model,
        attention=config.attention,
        seed=config.seed,
        vocab_size=job.vocab_size,
        max_seq_len=job.max_seq_len,
        bos_id=job.bos_id,
        pad_id=job.pad_id,
        stop_id=job.stop_id,
    ).to(distributed.device())
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    settings = config.zero.deepspeed(
        batch_rows=config.batch_rows,
        micro_batch_rows=config.rows_at_once,
        ranks=dist.get_world_size(),
        precision=config.precision,
        clip=config.clip,
    )
    return distributed.start_engine(model, optimizer, settings)


def rate(config: PretrainConfig, step: int, steps: int) -> float:
    """The learning rate of a step."""
    return learning_rate(
        step,
        steps=steps,
        peak=config.learning_rate,
        warmup_steps=config.warmup_steps,
        schedule=config.schedule,
        final_share=config.final_learning_rate_share,
    )


def must_agree(job: PretrainJob, ranks: int) -> dict[str, Any]:
    """What a checkpoint to resume from was made with. Other ranks would cut optimizer and batches differently."""
    free = {
        "activation_checkpointing",
        "device_memory",
        "threads",
        "loader_threads",
        "save_every_steps",
        "keep_checkpoints",
        "validate_every_steps",
        "log_every_steps",
    }
    settings = job.config.model_dump(mode="json", exclude=free)
    return {**settings, "ranks": ranks, "micro_batch_rows": job.config.rows_at_once, "shards": job.shards_digest}


def write_model(engine: Any, job: PretrainJob) -> None:
    """The trained model as a Hugging Face folder. In fp32: the next stage goes on training these weights, and a step of
    SFT is smaller than what bf16 can add to them.
    """
    with distributed.whole(engine.module, zero_stage=job.config.zero.stage):
        if dist.get_rank() == 0:
            engine.module.generation_config = GenerationConfig(
                bos_token_id=job.bos_id, pad_token_id=job.pad_id, eos_token_id=job.stop_id
            )
            engine.module.save_pretrained(job.out_dir)
    dist.barrier()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    doorway.run(PretrainJob, train)


if __name__ == "__main__":
    main()
