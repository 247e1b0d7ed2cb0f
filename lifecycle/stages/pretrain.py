"""Token rows to a base model: DeepSpeed on as many ranks as there are, resumed from the last verified checkpoint."""

import math
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Tokenizer, TokenShards
from lifecycle.chat.folder import copy_tokenizer
from lifecycle.errors import ConfigError, ContractError
from lifecycle.launch import Job, run_worker
from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.families import Model
from lifecycle.model.fitting import must_fit, size_of
from lifecycle.model.machine import Device, memory_of_a_rank
from lifecycle.model.states import Run
from lifecycle.model.zero import Precision, ZeroConfig
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, how_it_ran
from lifecycle.training.watchdog import WatchdogRules

WORKER = "lifecycle.workers.pretrain"


class Steps(BaseModel):
    """Train for this many optimizer steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["steps"] = "steps"
    steps: int = Field(ge=1)


class Tokens(BaseModel):
    """Train until this many tokens were seen, rounded up to a whole step."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["tokens"] = "tokens"
    tokens: int = Field(ge=1)


class PretrainConfig(StageConfig):
    """How the base model is trained. Row length and vocabulary are read from the shards."""

    stage: ClassVar[str] = "pretrain"
    model: Model = ModelConfig()
    horizon: Annotated[Steps | Tokens, Field(discriminator="kind")] = Steps(steps=600)
    batch_rows: int = Field(32, ge=1, description="Rows per optimizer step, over all ranks.")
    learning_rate: float = Field(3e-3, gt=0, description="The peak, after warm-up.")
    warmup_steps: int = Field(20, ge=0)
    schedule: Literal["cosine", "wsd", "linear"] = "cosine"
    final_learning_rate_share: float = Field(0.1, ge=0, le=1, description="Of the peak, at the last step.")
    weight_decay: float = Field(0.1, ge=0, description="On matrices; norms are not decayed.")
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient of the whole batch.")
    zero: ZeroConfig = ZeroConfig()
    precision: Precision = Field("bf16", description="bf16 is autocast; weights and optimizer stay fp32.")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    watchdog: WatchdogRules = Field(WatchdogRules(), description="When a failing run is warned of, mended or ended.")
    seed: int = Field(0, description="Names the initial weights and the order of rows.")
    ranks: int = how_it_ran(2, ge=1, description="Processes on this machine: GPUs, or cores.")
    threads: int | None = how_it_ran(None, ge=1, description="Of each rank; default: cores shared out.")
    micro_batch_rows: int | None = how_it_ran(None, ge=1, description="Of a rank at once; default: all its rows.")
    activation_checkpointing: bool = how_it_ran(
        False, description="Keep only each layer's input and compute the rest again: a third more work, less memory."
    )
    device_memory: str | None = how_it_ran(None, description="Of one rank, like 80GiB. Default: what this machine has.")
    loader_threads: int = how_it_ran(1, ge=0, description="Of each rank, reading rows some steps ahead.")
    save_every_steps: int = how_it_ran(100, ge=1)
    keep_checkpoints: int = how_it_ran(2, ge=1)
    validate_every_steps: int = how_it_ran(200, ge=1)
    log_every_steps: int = how_it_ran(10, ge=1)

    @property
    def rows_at_once(self) -> int:
        """Rows one rank computes together."""
        rows = self.micro_batch_rows or max(1, self.batch_rows // self.ranks)
        if self.batch_rows % (rows * self.ranks):
            raise ConfigError(
                "expected pretrain.batch_rows to be a multiple of ranks x micro_batch_rows, found "
                f"{self.batch_rows} and {self.ranks} x {rows}. Change one of the three."
            )
        return rows

    def steps(self, max_seq_len: int) -> int:
        """Optimizer steps of the whole run."""
        match self.horizon:
            case Steps(steps=steps):
                return steps
            case Tokens(tokens=tokens):
                return math.ceil(tokens / (self.batch_rows * max_seq_len))


class PretrainJob(Job):
    """What the worker is told."""

    config: PretrainConfig
    shards_dir: Path
    shards_digest: str
    max_seq_len: int
    vocab_size: int
    bos_id: int
    pad_id: int
    stop_id: int


class PretrainResult(BaseModel):
    """What the worker brings back."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    parameters: int
    steps: int
    validation_loss: float
    findings: dict[str, int]
    skipped_batches: int


def pretrain(config: PretrainConfig, shards: TokenShards, tokenizer: Tokenizer, *, out_dir: Path) -> Checkpoint:
    """Train a fresh model on next-token prediction and save it as a Hugging Face folder with its tokenizer."""
    contracts.same_protocol(shards, tokenizer)
    _check(config, shards, tokenizer)
    job = PretrainJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        shards_dir=shards.path,
        shards_digest=shards.digest,
        max_seq_len=shards.max_seq_len,
        vocab_size=shards.vocab_size,
        bos_id=tokenizer.bos_id,
        pad_id=tokenizer.pad_id,
        stop_id=tokenizer.stop_id,
    )
    result = run_worker(WORKER, job, PretrainResult, ranks=config.ranks, threads=_threads(config))
    copy_tokenizer(tokenizer.path, out_dir)
    return Checkpoint(
        path=out_dir,
        role="base",
        parameters=result.parameters,
        max_seq_len=shards.max_seq_len,
        protocol_digest=shards.protocol_digest,
        steps=result.steps,
        tokens_seen=result.steps * config.batch_rows * shards.max_seq_len,
        final_loss=result.validation_loss,
        findings=result.findings,
        dropped={"batches_skipped_after_a_spike": result.skipped_batches} if result.skipped_batches else {},
    ).seal(config, shards, tokenizer)


def _check(config: PretrainConfig, shards: TokenShards, tokenizer: Tokenizer) -> None:
    """Whatever would fail minutes later, in the worker."""
    if shards.vocab_size != tokenizer.vocab_size:
        raise ContractError(
            f"expected shards with the tokenizer's {tokenizer.vocab_size} ids, found {shards.vocab_size}. Pack again."
        )
    if shards.validation_rows < 1:
        raise ContractError("expected at least one validation row, found none. Raise corpus.validation_share.")
    if config.warmup_steps >= (steps := config.steps(shards.max_seq_len)):
        raise ConfigError(
            f"expected pretrain.warmup_steps below the {steps} steps of the run, found {config.warmup_steps}. Lower it."
        )
    config.rows_at_once  # noqa: B018  # raises ConfigError when batch, ranks and micro batch do not fit
    _check_memory(config, shards)


def _check_memory(config: PretrainConfig, shards: TokenShards) -> None:
    """Raise ConfigError where a rank would run out of memory, with what would fit."""
    has, said = memory_of_a_rank(config.ranks), config.device_memory
    run = memory_run(config, max_seq_len=shards.max_seq_len, vocab_size=shards.vocab_size, device=has.device)
    must_fit(run, available=size_of(said) if said else has.bytes, device=has.device)


def memory_run(config: PretrainConfig, *, max_seq_len: int, vocab_size: int, device: Device) -> Run:
    """What decides how much memory a rank of this training needs."""
    eager = config.attention == "eager" or (config.attention == "auto" and device == "cpu")  # as `model.llama` chooses
    return Run(
        work=Work(
            model=config.model,
            rows=config.rows_at_once,
            tokens=max_seq_len - 1,
            precision=config.precision,
            attention="eager" if eager else "sdpa",
            partitioned=config.zero.stage == 3,
        ),
        vocab_size=vocab_size,
        zero=config.zero,
        ranks=config.ranks,
        accumulation=config.batch_rows // (config.rows_at_once * config.ranks),
        checkpointing=config.activation_checkpointing,
    )


def _threads(config: PretrainConfig) -> int:
    return config.threads or max(1, (os.cpu_count() or 1) // config.ranks)
