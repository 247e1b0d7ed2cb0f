"""An SFT checkpoint learns which of two answers is better, by one of five methods, and is kept near what it was."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Comparisons
from lifecycle.launch import run_worker
from lifecycle.sealing import how_it_ran, later_field
from lifecycle.training.compared import ComparedJob, PairsConfig, handed, left
from lifecycle.training.drift import DriftPolicy
from lifecycle.training.post import Tuned

WORKER = "lifecycle.workers.preference"
Method = Literal["dpo", "ipo", "kto", "orpo", "simpo"]


class PreferenceConfig(PairsConfig):
    """How preferences are learned. Too high a rate wins every pair and forgets the task: judge sampled answers.

    | method | what it asks of a pair | beta is |
    |---|---|---|
    | dpo | chosen above rejected, against the reference (Rafailov et al. 2023, eq. 7) | the weight of a log-ratio |
    | ipo | a margin, no more (Azar et al. 2023, eq. 17) | tau: the margin is 1 / (2 tau) nats |
    | kto | each answer by itself, wanted or not (Ethayarajh et al. 2024, eq. 8) | the weight of a log-ratio |
    | orpo | likely and above rejected, no reference (Hong et al. 2024, eq. 6) | the weight of the odds ratio |
    | simpo | above rejected by `margin`, no reference (Meng et al. 2024, eq. 6) | the weight of log p a token |
    """

    stage: ClassVar[str] = "preference"
    method: Method = Field("dpo", description="Which loss; the table above.")
    beta: float = Field(0.1, gt=0, description="How dear it is to move away from the reference; higher moves less.")
    margin: float = later_field(1.0, ge=0, description="simpo's alone: by how much chosen is to win; about beta / 2.")
    chosen_nll_weight: float = Field(
        0.0,
        ge=0,
        description="Of the chosen answer's mean -log p in the loss: keeps DPO from making right answers unlikely "
        "(Pang et al. 2024, arxiv.org/abs/2404.19733, eq. 1).",
    )
    learning_rate: float = Field(8e-5, gt=0, description="The peak; 8e-5 suits 1M weights, 5e-7 suits 1B and more.")
    drift: DriftPolicy | None = later_field(
        None, description="What is watched while training, and what ends it; None: only held-out pairs, at the end."
    )
    layout: Literal["side_by_side", "padded"] = how_it_ran(
        "side_by_side",
        description="A prompt is read once and both answers lie behind it; or each answer has a row with the prompt "
        "again: for long answers to short prompts. The loss is the same.",
    )

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> Self:
        if self.method == "orpo" and self.chosen_nll_weight:
            raise ValueError("orpo has the chosen answer's -log p in its loss already. Leave chosen_nll_weight at 0.")
        if self.method != "simpo" and self.margin != type(self).model_fields["margin"].default:
            raise ValueError(f"expected a margin with method simpo alone, found one with {self.method}. Leave it out.")
        if self.method == "kto" and self.micro_batch_rows is not None:
            raise ValueError(
                "kto estimates its KL over the pairs held at once: micro batches would be another method. Leave "
                "micro_batch_rows out, or lower batch_pairs."
            )
        return self


class PreferenceJob(ComparedJob):
    """What `lifecycle.workers.preference` is handed. The reference is the SFT checkpoint it starts from."""

    config: PreferenceConfig
    references: Path | None = None
    """Where the reference's log-probabilities are kept, for every run of the store; None: for this run alone."""


def align(config: PreferenceConfig, sft: Checkpoint, comparisons: Comparisons, *, out_dir: Path) -> Checkpoint:
    """The SFT model after `epochs` passes over the comparisons. A killed run goes on, to the same bytes."""
    contracts.has_role(sft, "sft")
    job = PreferenceJob(config=config, references=references_of(out_dir), **handed(sft, comparisons, out_dir))
    tuned = run_worker(WORKER, job, Tuned, ranks=config.ranks, threads=config.threads, on_accelerators=True)
    return left(tuned, "preference", sft, out_dir).seal(config, sft, comparisons)


def references_of(out_dir: Path) -> Path:
    """Where a store keeps log-probabilities of references; `out_dir` is <store>/artifacts/<stage>/<name>."""
    return out_dir.absolute().parents[2] / "references"
