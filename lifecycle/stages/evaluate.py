"""A checkpoint's scores on what was held out: contract items answered twice each, and bits per byte of every source."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Corpus, EvalReport, Suites
from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.chat.render import render
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import ContractError
from lifecycle.evaluation.items import measured, read_items, scores
from lifecycle.launch import Job, run_worker
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, how_it_ran

WORKER = "lifecycle.workers.evaluate"


class EvaluateConfig(StageConfig):
    """How a checkpoint is measured. Two reports can be compared when these settings, suites and texts are equal."""

    stage: ClassVar[str] = "evaluate"
    max_new_tokens: int = Field(32, ge=1, description="Longest answer; one that does not stop within it is cut.")
    sampled_temperature: float = Field(1.0, gt=0, description="Of the sampled answer; 1 samples what was learned.")
    seed: int = Field(0, description="Names the random numbers of the sampled answers.")
    validation_documents_per_source: int | None = Field(
        None, ge=2, description="At most so many are scored, chosen by hash; None scores all."
    )
    context_tokens: int = Field(
        0, ge=0, description="Of a document's last window shown again, unscored, before the next: more is slower."
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the two-sided intervals in the report.")
    batch_items: int = how_it_ran(64, ge=1, description="Prompts or text windows at once.")
    threads: int | None = how_it_ran(None, ge=1, description="Batches at a time on CPUs; None: one a core.")

    def scoring(self) -> dict[str, Any]:
        """The settings that move scores, as opposed to how they are shown."""
        return self.model_dump(mode="json", exclude={"confidence", "batch_items", "threads"})


class EvaluateJob(Job):
    """What `lifecycle.workers.evaluate` is handed."""

    config: EvaluateConfig
    model: Path
    suites: dict[str, Path]
    train_file: Path
    validation_file: Path
    max_seq_len: int
    threads: int


class Evaluated(BaseModel):
    """What the worker brings back beside the item records."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    items: int
    baselines: dict[str, float]


def evaluate(
    config: EvaluateConfig, checkpoint: Checkpoint, suites: Suites, corpus: Corpus, *, out_dir: Path
) -> EvalReport:
    """Answer every contract item, score every validation document, and keep the record of each."""
    contracts.holds_items(suites)
    contracts.has_documents(corpus)
    contracts.decontaminated(corpus, suites)
    _speaks_as_recorded(checkpoint)
    _answers_fit(config, checkpoint, suites)
    job = EvaluateJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        model=checkpoint.path,
        suites={name: suites.file_of(name) for name in sorted(suites.items)},
        train_file=corpus.train_file,
        validation_file=corpus.validation_file,
        max_seq_len=checkpoint.max_seq_len,
        threads=config.threads or os.cpu_count() or 1,
    )
    result = run_worker(WORKER, job, Evaluated, threads=1)
    majority = {f"{name}.majority_answer": share for name, share in sorted(suites.majority_answer_share.items())}
    return EvalReport(
        path=out_dir,
        checkpoint_digest=checkpoint.digest,
        protocol_digest=checkpoint.protocol_digest,
        suites_digest=_what_was_asked(config, suites, corpus),
        scores=scores(measured(read_items(out_dir)), confidence=config.confidence),
        baselines=majority | result.baselines,
    ).seal(config, checkpoint, suites, corpus)


def _speaks_as_recorded(checkpoint: Checkpoint) -> None:
    """The tokenizer and template in the folder are the ones the checkpoint says it was trained with."""
    found = protocol_of(checkpoint.path).digest
    if found != checkpoint.protocol_digest:
        raise ContractError(
            f"expected the chat protocol {checkpoint.protocol_digest[:12]} in {checkpoint.path}, found {found[:12]}: "
            "its tokenizer or template was changed. Rerun the stage that made it."
        )


def _answers_fit(config: EvaluateConfig, checkpoint: Checkpoint, suites: Suites) -> None:
    """There is room for the longest answer after the longest prompt: a cut prompt would be another question."""
    tokenizer = load_tokenizer(checkpoint.path)
    for suite in sorted(suites.items):
        for row in load_rows(suites.file_of(suite)):
            prompt = len(render(tokenizer, row["messages"], generation_prompt=True).ids)
            if prompt + config.max_new_tokens > checkpoint.max_seq_len:
                raise ContractError(
                    f"expected prompt and answer within max_seq_len {checkpoint.max_seq_len}, found item {row['id']!r} "
                    f"of {suite} with {prompt} tokens and evaluate.max_new_tokens={config.max_new_tokens}. Lower "
                    "evaluate.max_new_tokens, or raise shards.max_seq_len."
                )
    if config.context_tokens >= checkpoint.max_seq_len:
        raise ContractError(
            f"expected evaluate.context_tokens below max_seq_len {checkpoint.max_seq_len}, found "
            f"{config.context_tokens}: no token would be left to score. Lower it."
        )


def _what_was_asked(config: EvaluateConfig, suites: Suites, corpus: Corpus) -> str:
    """Equal for two reports exactly when the same items were scored in the same way."""
    asked = {
        "suites": suites.digest,
        "validation": corpus.manifest.files[corpus.validation_file.name].sha256,
        "scoring": config.scoring(),
        "revision": config.revision,
    }
    return sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
