"""What a recipe expects of its own numbers: counts and shares of every stage, each in a range. The canary holds them.

A contract says what must be true of any run; an expectation says what is true of this recipe while nothing broke: a
filter that drops twice as much still fits its contracts, and every checkpoint below it is worse.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle.artifacts import (
    Checkpoint,
    Comparisons,
    Corpus,
    Demonstrations,
    EvalReport,
    GateDecision,
    Release,
    Suites,
    Tokenizer,
    TokenShards,
)
from lifecycle.errors import ConfigError
from lifecycle.sealing import Artifact


class Expected(BaseModel):
    """One number of one stage's artifact, and the range it lies in while all is well. Both ends belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    number: str = Field(description="One of `numbers_of` for the stage's artifact.")
    at_least: float
    at_most: float

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.at_least <= self.at_most:
            raise ValueError(
                f"expected at_least <= at_most for {self.stage} {self.number}, found {self.at_least} and {self.at_most}"
            )
        return self


class Line(NamedTuple):
    """An expectation beside what was found."""

    expected: Expected
    found: float

    @property
    def holds(self) -> bool:
        return self.expected.at_least <= self.found <= self.expected.at_most  # false for a NaN, too

    def __str__(self) -> str:
        asked = f"{_plain(self.expected.at_least)} to {_plain(self.expected.at_most)}"
        return f"{self.expected.stage} {self.expected.number}: expected {asked}, found {_plain(self.found)}"


def held(
    expected: Sequence[Expected], stage: str, artifact: Artifact, inputs: Sequence[Artifact | None] = ()
) -> list[Line]:
    """A line for every expectation of this stage. ConfigError for a number that its artifact does not have."""
    asked = [one for one in expected if one.stage == stage]
    found = numbers_of(artifact, [given for given in inputs if given is not None]) if asked else {}
    unknown = sorted({one.number for one in asked} - found.keys())
    if unknown:
        raise ConfigError(
            f"expected numbers that {type(artifact).__name__} of stage {stage!r} has, found {', '.join(unknown)} among "
            f"the recipe's `expected`. It has: {', '.join(sorted(found))}."
        )
    return [Line(one, found[one.number]) for one in asked]


def numbers_of(artifact: Artifact, inputs: Sequence[Artifact]) -> dict[str, float]:
    """The counts and shares of an artifact, those between it and its inputs among them.

    A share whose whole is empty is absent: nothing can be said of it.
    """
    match artifact:
        case Suites():
            return {"items": sum(artifact.items.values())}
        case Corpus():
            return _of_corpus(artifact)
        case Tokenizer():
            return {"vocab_size": artifact.vocab_size}
        case TokenShards():
            return _of_shards(artifact, inputs)
        case Demonstrations():
            kept = artifact.train_rows + artifact.dev_rows
            return _present(
                {"train_rows": artifact.train_rows, "dev_rows": artifact.dev_rows},
                kept_share=(kept, kept + sum(artifact.dropped.values())),
            )
        case Comparisons():
            kept = artifact.train_pairs + artifact.heldout_pairs
            return _present(
                {
                    "train_pairs": artifact.train_pairs,
                    "heldout_pairs": artifact.heldout_pairs,
                    "length_alone_predicts": artifact.length_alone_predicts,
                },
                kept_share=(kept, kept + sum(artifact.dropped.values())),
            )
        case Checkpoint():
            return _of_checkpoint(artifact, inputs)
        case EvalReport():
            return _of_report(artifact)
        case GateDecision():
            passed = sum(check.verdict == "PASS" for check in artifact.checks)
            return _present({"checks": len(artifact.checks)}, passed_share=(passed, len(artifact.checks)))
        case Release():
            return {"scores": len(artifact.scores)}
    return {}


def _plain(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.6g}"


def _of_corpus(corpus: Corpus) -> dict[str, float]:
    read = sum(source.read for source in corpus.sources.values())
    kept = sum(source.kept for source in corpus.sources.values())
    documents = corpus.train_documents + corpus.validation_documents
    return _present(
        {
            "read": read,
            "train_documents": corpus.train_documents,
            "validation_documents": corpus.validation_documents,
            "train_bytes": _train_bytes(corpus),
        },
        kept_share=(kept, read),
        validation_share=(corpus.validation_documents, documents),
    )


def _of_shards(shards: TokenShards, inputs: Sequence[Artifact]) -> dict[str, float]:
    trained_bytes = sum(_train_bytes(given) for given in inputs if isinstance(given, Corpus))
    counts = {"rows": shards.rows, "validation_rows": shards.validation_rows, "tokens": shards.tokens}
    return _present(counts, bytes_per_token=(trained_bytes, shards.tokens))


def _of_checkpoint(checkpoint: Checkpoint, inputs: Sequence[Artifact]) -> dict[str, float]:
    rows = sum(given.train_rows for given in inputs if isinstance(given, Demonstrations))
    rows += sum(given.train_pairs for given in inputs if isinstance(given, Comparisons))
    text = sum(given.tokens for given in inputs if isinstance(given, TokenShards))
    supervised = {} if checkpoint.supervised_share is None else {"supervised_share": checkpoint.supervised_share}
    return _present(
        {
            "parameters": checkpoint.parameters,
            "steps": checkpoint.steps,
            "tokens_seen": checkpoint.tokens_seen,
            "final_loss": checkpoint.final_loss,
            "findings": sum(checkpoint.findings.values()),
            **supervised,
        },
        epochs=(checkpoint.tokens_seen, text),
        dropped_share=(sum(checkpoint.dropped.values()), rows),
    )


def _of_report(report: EvalReport) -> dict[str, float]:
    scores = report.scores.values()
    unmeasured = sum(score.unmeasured for score in scores)
    looked = report.contamination.values()
    means = {name: score.mean for name, score in report.scores.items() if score.mean is not None}
    return _present(
        means,
        unmeasured_share=(unmeasured, sum(score.items for score in scores) + unmeasured),
        contaminated_share=(sum(found.contaminated for found in looked), sum(found.items for found in looked)),
    )


def _train_bytes(corpus: Corpus) -> int:
    return sum(source.train_bytes for source in corpus.sources.values())


def _present(counts: Mapping[str, float], **shares: tuple[float, float]) -> dict[str, float]:
    return {**counts, **{name: part / whole for name, (part, whole) in shares.items() if whole}}
