"""Token rows to a base model: DeepSpeed on as many ranks as there are, resumed from the last verified checkpoint."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Tokenizer, TokenShards
from lifecycle.chat import golden
from lifecycle.chat.folder import copy_tokenizer
from lifecycle.errors import ConfigError, ContractError
from lifecycle.launch import Job, Launch, cores, run_worker
from lifecycle.model import foreign
from lifecycle.model.activations import Work
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.attention import Attention, implementation
from lifecycle.model.families import AnyModel, Model, OfTheBase
from lifecycle.model.fitting import must_fit, size_of
from lifecycle.model.host import Host, Node
from lifecycle.model.machine import Device, host_memory, memory_of_a_rank
from lifecycle.model.states import Run
from lifecycle.model.zero import Precision, ZeroConfig, stages_for
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, how_it_ran, later_field
from lifecycle.training.watchdog import WatchdogRules

WORKER = "lifecycle.workers.pretrain"
HERE = {"offload_optimizer": False, "offload_parameters": False}
"""A CPU has no memory but the host's: there nothing is moved out of the way."""


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
    revision: ClassVar[int] = 3
    model: AnyModel = ModelConfig()
    horizon: Annotated[Steps | Tokens, Field(discriminator="kind")] = Steps(steps=600)
    batch_rows: int = Field(32, ge=1, description="Rows per optimizer step, over all ranks.")
    learning_rate: float = Field(3e-3, gt=0, description="The peak, after warm-up.")
    warmup_steps: Annotated[int, Field(ge=0)] | Tokens = Field(20, description="Or tokens, up to a whole step.")
    schedule: Literal["cosine", "wsd", "linear"] = "cosine"
    final_learning_rate_share: float = Field(0.1, ge=0, le=1, description="Of the peak, at the last step.")
    weight_decay: float = Field(0.1, ge=0, description="On matrices; norms are not decayed.")
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient of the whole batch.")
    precision: Precision = Field("bf16", description="bf16 is autocast; weights and optimizer stay fp32.")
    attention: Attention = "auto"
    cross_document_attention: Literal["blocked", "allowed"] = Field(
        "blocked", description="May a token see the documents before its own in a row?"
    )
    compile: bool = later_field(
        False, description="Each layer compiled by torch when training starts: faster steps, other rounding."
    )
    fused: bool = later_field(
        True,
        description="A Llama's layers on a CPU, one thread a rank, ZeRO 0 to 2, in loops that pass over memory less.",
    )
    watchdog: WatchdogRules = Field(WatchdogRules(), description="When a failing run is warned of, mended or ended.")
    seed: int = Field(0, description="Names the initial weights and the order of rows.")
    ranks: int = how_it_ran(2, ge=1, description="Processes on each node: GPUs, or cores.")
    launch: Launch = how_it_ran(Launch(), description="On which machines, and what happens when a rank stands still.")
    zero: ZeroConfig = how_it_ran(ZeroConfig(), description="What the ranks share out.")
    reshard: bool = how_it_ran(
        False, description="Go on from a checkpoint that was spread otherwise: other ranks, micro batches or zero."
    )
    threads: int | None = how_it_ran(None, ge=1, description="Of each rank; default: cores shared out.")
    micro_batch_rows: int | None = how_it_ran(None, ge=1, description="Of a rank at once; default: all its rows.")
    activation_checkpointing: bool = how_it_ran(
        False, description="Keep only each layer's input and compute the rest again: a third more work, less memory."
    )
    device_memory: str | None = how_it_ran(None, description="Of one rank, like 80GiB. Default: what this machine has.")
    host_memory: str | None = how_it_ran(
        None, description="Of one machine with GPUs, like 2TiB. Default: what this has."
    )
    loader_threads: int = how_it_ran(1, ge=0, description="Of each rank, reading rows some steps ahead.")
    save_every_steps: int = how_it_ran(100, ge=1)
    keep_checkpoints: int = how_it_ran(2, ge=1)
    keep_best: bool = how_it_ran(True, description="And the one with the lowest held-out loss.")
    validate_every_steps: int = how_it_ran(200, ge=1)
    log_every_steps: int = how_it_ran(10, ge=1)

    @property
    def world_size(self) -> int:
        """All ranks, on all nodes."""
        return self.ranks * self.launch.nodes

    @property
    def rows_at_once(self) -> int:
        """Rows one rank computes together."""
        rows = self.micro_batch_rows or max(1, self.batch_rows // self.world_size)
        if self.batch_rows % (rows * self.world_size):
            raise ConfigError(
                "expected pretrain.batch_rows to be a multiple of ranks x micro_batch_rows, found "
                f"{self.batch_rows} and {self.world_size} x {rows}. Change one of the three."
            )
        return rows

    def steps(self, max_seq_len: int) -> int:
        """Optimizer steps of the whole run."""
        match self.horizon:
            case Steps(steps=steps):
                return steps
            case Tokens(tokens=tokens):
                return math.ceil(tokens / (self.batch_rows * max_seq_len))

    def warmup(self, max_seq_len: int) -> int:
        """Optimizer steps until the rate is at its peak."""
        if isinstance(self.warmup_steps, int):
            return self.warmup_steps
        return math.ceil(self.warmup_steps.tokens / (self.batch_rows * max_seq_len))


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
    base: Path | None = None
    """The model folder whose weights are trained further; None: fresh ones."""
    base_digest: str | None = None
    base_model: Model | None = None

    @property
    def model(self) -> Model:
        """The shape of the network."""
        return self.base_model or _own(self.config)


class PretrainResult(BaseModel):
    """What the worker brings back."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    parameters: int
    steps: int
    validation_loss: float
    findings: dict[str, int]
    skipped_batches: int
    start_loss: float | None = Field(None, description="Of the base, on the validation rows.")


def pretrain(
    config: PretrainConfig, shards: TokenShards, tokenizer: Tokenizer, base: Checkpoint | None = None, *, out_dir: Path
) -> Checkpoint:
    """Train on next-token prediction, a fresh model or an adopted `base`, and save it with its tokenizer."""
    golden.speak_alike(shards, tokenizer)
    if base is not None:
        contracts.has_role(base, "base")
        golden.speak_alike(base, tokenizer)
    model = _shape(config, base, shards)
    _check(config, model, shards, tokenizer)
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
        **({} if base is None else {"base": base.path, "base_digest": base.digest, "base_model": model}),
    )
    result = run_worker(
        WORKER,
        job,
        PretrainResult,
        ranks=config.ranks,
        threads=_threads(config),
        launch=config.launch,
        on_accelerators=True,
    )
    copy_tokenizer(tokenizer.path, out_dir)
    return Checkpoint(
        path=out_dir,
        role="base",
        parameters=result.parameters if base is None else base.parameters,
        max_seq_len=shards.max_seq_len,
        protocol_digest=shards.protocol_digest,
        steps=result.steps,
        tokens_seen=result.steps * config.batch_rows * shards.max_seq_len,
        final_loss=result.validation_loss,
        start_loss=result.start_loss,
        findings=result.findings,
        dropped={"batches_skipped_after_a_spike": result.skipped_batches} if result.skipped_batches else {},
    ).seal(config, shards, tokenizer, *([] if base is None else [base]))


def _shape(config: PretrainConfig, base: Checkpoint | None, shards: TokenShards) -> Model:
    """The network that is trained: the recipe's own, or the base's, which has room for these rows."""
    if isinstance(config.model, OfTheBase) != (base is not None):
        raise ConfigError(
            f"expected pretrain.model of the base exactly where there is a base, found {config.model.family!r} and "
            f"{'a base' if base else 'none'}. Set both or neither: a shape has one home."
        )
    if isinstance(config.model, OfTheBase):
        assert base is not None
        settings = foreign.read_config(base.path)
        if (positions := foreign.positions_of(settings)) < shards.max_seq_len:
            raise ContractError(
                f"expected rows of at most the base's {positions} positions, found {shards.max_seq_len}. Lower "
                "shards.max_seq_len."
            )
        if settings["vocab_size"] < shards.vocab_size:
            raise ContractError(
                f"expected ids below the base's {settings['vocab_size']}, found {shards.vocab_size}. Pack with the "
                "base's own tokenizer (BaseTokenizerConfig)."
            )
        return foreign.shape_of(base.path)
    return config.model


def _check(config: PretrainConfig, model: Model, shards: TokenShards, tokenizer: Tokenizer) -> None:
    """Whatever would fail minutes later, in the worker."""
    if shards.vocab_size != tokenizer.vocab_size:
        raise ContractError(
            f"expected shards with the tokenizer's {tokenizer.vocab_size} ids, found {shards.vocab_size}. Pack again."
        )
    if shards.validation_rows < 1:
        raise ContractError("expected at least one validation row, found none. Raise corpus.validation_share.")
    warmup, steps = config.warmup(shards.max_seq_len), config.steps(shards.max_seq_len)
    if warmup >= steps:
        raise ConfigError(
            f"expected pretrain.warmup_steps below the {steps} steps of the run, found {warmup}. Lower it."
        )
    config.rows_at_once  # noqa: B018  # raises ConfigError when batch, ranks and micro batch do not fit
    _check_memory(config, model, shards)


def _check_memory(config: PretrainConfig, model: Model, shards: TokenShards) -> None:
    """Raise ConfigError where a rank would run out of memory, with what would fit."""
    has, said = memory_of_a_rank(config.ranks), config.device_memory
    sizes = {"max_seq_len": shards.max_seq_len, "vocab_size": shards.vocab_size}
    run = memory_run(config, **sizes, device=has.device, model=model)
    available = size_of(said) if said else has.bytes
    must_fit(run, available=available, device=has.device, host=host_of(config) if has.device == "cuda" else None)


def host_of(config: PretrainConfig) -> Host:
    """The machine whose memory ranks with GPUs share."""
    node = Node(config.ranks, adopted=isinstance(config.model, OfTheBase), fp16=config.precision == "fp16")
    return Host(node, size_of(config.host_memory) if config.host_memory else host_memory())


def memory_run(
    config: PretrainConfig, *, max_seq_len: int, vocab_size: int, device: Device, model: Model | None = None
) -> Run:
    """What decides how much memory a rank of this training needs. `model`: the base's shape where that is trained.

    Raises ConfigError for settings that do not go together, or not on this device.
    """
    config.zero.must_suit(config.precision, compiled=config.compile, on_gpus=device == "cuda")
    model = model or _own(config)
    eager = implementation(config.attention, device=device, tokens=max_seq_len) == "eager"
    return Run(
        work=Work(
            model=model,
            rows=config.rows_at_once,
            tokens=max_seq_len - 1,
            precision="fp32" if config.precision == "fp32" else "bf16",  # of fp16 that is an upper bound
            attention="eager" if eager else "sdpa",
            partitioned=config.zero.stage == 3,
            apart=config.cross_document_attention == "blocked",
        ),
        vocab_size=vocab_size,
        zero=config.zero if device == "cuda" else config.zero.model_copy(update=HERE),
        ranks=config.world_size,
        accumulation=config.batch_rows // (config.rows_at_once * config.world_size),
        checkpointing=config.activation_checkpointing,
        stages=stages_for(config.precision, compiled=config.compile),
    )


def _own(config: PretrainConfig) -> Model:
    if isinstance(config.model, OfTheBase):
        raise ConfigError("expected the shape of the base, found none. Name the base first: --set base.source=FOLDER.")
    return config.model


def _threads(config: PretrainConfig) -> int:
    return config.threads or max(1, cores() // config.ranks)
