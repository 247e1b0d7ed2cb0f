"""Pretraining, one process per rank: `-m lifecycle.workers.pretrain JOB_FOLDER`, started by torch.distributed.run."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from transformers.generation.configuration_utils import GenerationConfig

from lifecycle.data.shard_reader import ShardReader
from lifecycle.model.network import compile_layers, loaded, network
from lifecycle.model.zero import Precision
from lifecycle.sealing import canonical
from lifecycle.stages.pretrain import PretrainConfig, PretrainJob, PretrainResult
from lifecycle.training import distributed
from lifecycle.training.batches import Batches
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.loop import Intervals, Training, validation_loss
from lifecycle.training.schedule import learning_rate
from lifecycle.training.stop import StopRequest
from lifecycle.training.watchdog import Watchdog
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder


def train(job: PretrainJob, recorder: Recorder) -> PretrainResult:
    """Train to the horizon, from the newest verified checkpoint if there is one, and write the model folder."""
    stop = StopRequest().listen()
    distributed.start_process_group()
    config, device = job.config, distributed.device()
    reader = ShardReader(job.shards_dir)
    batches = Batches(
        reader,
        batch_rows=config.batch_rows,
        micro_batch_rows=config.rows_at_once,
        seed=config.seed,
        rank=dist.get_rank(),
        ranks=dist.get_world_size(),
        workers=config.loader_threads,
        apart=config.cross_document_attention == "blocked",
    )
    engine = start_engine(job)
    start_loss = None if job.base is None else measure_start(engine, batches, recorder)
    steps = config.steps(job.max_seq_len)
    training = Training(
        engine,
        batches,
        Checkpoints(
            job.scratch_dir / "checkpoints",
            keep=config.keep_checkpoints,
            keep_best=config.keep_best,
            made_by=must_agree(job),
            layout=layout(config, dist.get_world_size()),
            reshard=config.reshard,
        ),
        recorder,
        Watchdog(
            config.watchdog,
            vocab_size=job.vocab_size,
            unigram_nats=batches.reader.unigram_nats(),
            steps=steps,
            warmup_steps=config.warmup(job.max_seq_len),
        ),
        rate=lambda step: rate(config, step, steps, config.warmup(job.max_seq_len)),
        every=Intervals(log=config.log_every_steps, save=config.save_every_steps, validate=config.validate_every_steps),
        stop=stop,
        device=device,
    )
    validation_loss = training.run(steps)
    write_model(engine, job)
    return PretrainResult(
        parameters=job.model.parameters(job.vocab_size, job.max_seq_len),
        steps=steps,
        start_loss=start_loss,
        validation_loss=validation_loss,
        findings=dict(training.course.findings),
        skipped_batches=training.course.skipped_batches,
    )


def measure_start(engine: Any, batches: Batches, recorder: Recorder) -> float:
    """Validation loss of the base as it came. A run that goes on measures it again: its weights are read later."""
    loss, _ = validation_loss(engine, batches, distributed.device())
    if not (recorder.folder / "metrics.jsonl").exists():
        recorder.metrics(0, start_loss=loss)
    return loss


def start_network(job: PretrainJob) -> Any:
    """Fresh weights, or those of the base."""
    config = job.config
    if job.base is not None:
        return loaded(job.base, attention=config.attention, seed=config.seed, max_seq_len=job.max_seq_len)
    return network(
        job.model,
        attention=config.attention,
        seed=config.seed,
        vocab_size=job.vocab_size,
        max_seq_len=job.max_seq_len,
        bos_id=job.bos_id,
        pad_id=job.pad_id,
        stop_id=job.stop_id,
    )


def start_engine(job: PretrainJob) -> Any:
    """A DeepSpeed engine around the model and torch's AdamW, fused: 0.7 ms a step, its loop takes 3.6."""
    config = job.config
    if config.zero.stage < 3:
        model = start_network(job).to(distributed.device())
    else:  # it is cut before it is moved, and what is cut are the weights of rank 0
        is_cut_here = dist.get_rank() == 0 or job.base is not None
        with torch.device("cpu" if is_cut_here else "meta"):
            model = start_network(job)
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable()
    if config.compile:
        compile_layers(model)
    elif config.fused and config.zero.stage < 3 and config.precision != "fp16":
        fuse_on_cpu(model, config.precision)
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


def fuse_on_cpu(model: Any, precision: Precision) -> None:
    """Compute as `training.fused` does, where that knows the network; it is imported there alone.

    With one thread a rank: its loops and torch's matrix products wait for each other's threads, and with two a step
    took three times as long on a busy machine (not measured on a quiet one).
    """
    if distributed.device().type != "cpu" or torch.get_num_threads() > 1:
        return
    from lifecycle.training import fused

    if fused.can_fuse(model):
        fused.fuse(model, torch.bfloat16 if precision == "bf16" else torch.float32)


def rate(config: PretrainConfig, step: int, steps: int, warmup_steps: int) -> float:
    """The learning rate of a step."""
    return learning_rate(
        step,
        steps=steps,
        peak=config.learning_rate,
        warmup_steps=warmup_steps,
        schedule=config.schedule,
        final_share=config.final_learning_rate_share,
    )


def must_agree(job: PretrainJob) -> dict[str, Any]:
    """What a checkpoint to resume from was made with: every setting that names what is trained, and the rows."""
    base = {} if job.base_digest is None else {"base": job.base_digest}
    return {**canonical(job.config), "shards": job.shards_digest, **base}


def layout(config: PretrainConfig, ranks: int) -> dict[str, Any]:
    """How a training is spread over ranks: sums are taken in another order, of the same numbers."""
    return {"ranks": ranks, "micro_batch_rows": config.rows_at_once, "zero": config.zero.model_dump(mode="json")}


def write_model(engine: Any, job: PretrainJob) -> None:
    """The trained model as a Hugging Face folder. In fp32: the next stage goes on training these weights, and a step of
    SFT is smaller than what bf16 can add to them.
    """
    weights = distributed.full_precision(engine.module) if job.config.precision == "fp16" else None
    with distributed.whole(engine.module, zero_stage=job.config.zero.stage):
        if dist.get_rank() == 0:
            engine.module.generation_config = GenerationConfig(
                bos_token_id=job.bos_id, pad_token_id=job.pad_id, eos_token_id=job.stop_id
            )
            engine.module.config.dtype = torch.float32
            engine.module.save_pretrained(job.out_dir, state_dict=weights)
    dist.barrier()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    doorway.run(PretrainJob, train)


if __name__ == "__main__":
    main()
