"""A model trained elsewhere as the base checkpoint: plain weights, with its own tokenizer and template, proven."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.artifacts import Checkpoint
from lifecycle.chat.protocol import protocol_of
from lifecycle.launch import Job, run_worker
from lifecycle.model import foreign
from lifecycle.sealing import SCRATCH_FOLDER, FileEntry, StageConfig

WORKER = "lifecycle.workers.base"


class BaseConfig(StageConfig):
    """Which model is adopted. Nothing of it is run; what could be is refused by name."""

    stage: ClassVar[str] = "base"
    source: Path = Field(description="A folder with config.json, safetensors and tokenizer files; or a .gguf file.")
    origin: str = Field(min_length=1, description="Where it came from: repository and commit, or package and version.")
    licence: str = Field(min_length=1, description="What allows its use, as the origin states it.")
    template: Path | None = Field(None, description="A chat template for a base that brings none, a .jinja file.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the stored weights; fp32 can be trained on.")
    max_seq_len: int | None = Field(None, ge=16, description="Longest row of later stages; None: all its positions.")


class BaseJob(Job):
    """What `lifecycle.workers.base` is handed."""

    config: BaseConfig


class Adopted(BaseModel):
    """What the worker brings back beside the model folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    parameters: int
    max_seq_len: int
    loss: float = Field(description="Mean nats a token of `lifecycle.workers.base.PROBE`: did its weights arrive?")
    files: dict[str, FileEntry]


def adopt_base(config: BaseConfig, *, out_dir: Path) -> Checkpoint:
    """The foreign model as a Hugging Face folder of safetensors, with its tokenizer and golden conversations."""
    foreign.check_names(config.source)
    job = BaseJob(out_dir=out_dir, scratch_dir=out_dir / SCRATCH_FOLDER, config=config)
    adopted = run_worker(WORKER, job, Adopted)
    return Checkpoint(
        path=out_dir,
        role="base",
        parameters=adopted.parameters,
        max_seq_len=adopted.max_seq_len,
        protocol_digest=protocol_of(out_dir).digest,
        steps=0,
        tokens_seen=0,
        final_loss=adopted.loss,
        foreign_files=adopted.files,
    ).seal(config)


def check_names(config: BaseConfig) -> None:
    """Raise InputError where a file of the base could run code or reach out of its folder: before one is opened."""
    foreign.check_names(config.source)
