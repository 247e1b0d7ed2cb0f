"""What must be true between two nouns. Each is called on the first line of the stage that joins them."""

from lifecycle.artifacts import (
    Checkpoint,
    Comparisons,
    Corpus,
    Demonstrations,
    EvalReport,
    GateDecision,
    Suites,
    Tokenizer,
    TokenShards,
)
from lifecycle.errors import ContractError
from lifecycle.sealing import Artifact


def holds_items(suites: Suites) -> None:
    """There is something to keep out of training: an empty suite would decontaminate nothing and score nothing."""
    empty = sorted(name for name, items in suites.items.items() if items == 0)
    if empty or not suites.items:
        raise ContractError(f"expected items in every suite, found none in {empty or 'any'}. Collect the suites again.")


def has_documents(corpus: Corpus) -> None:
    """There is text to train on and text to validate on."""
    if min(corpus.train_documents, corpus.validation_documents) == 0:
        raise ContractError(
            f"expected documents to train and to validate on, found {corpus.train_documents} and "
            f"{corpus.validation_documents} in {_name(corpus)}. Add text or raise corpus.validation_share."
        )


def trained_on(tokenizer: Tokenizer, corpus: Corpus) -> None:
    """The tokenizer was trained on exactly this corpus."""
    found = [entry.digest for entry in tokenizer.manifest.inputs if entry.kind == Corpus.__name__]
    if corpus.digest not in found:
        made_from = f"Corpus {found[0][:12]}" if found else "no corpus"
        raise ContractError(
            f"expected a tokenizer trained on {_name(corpus)}, found {_name(tokenizer)} made from {made_from}. "
            "Train the tokenizer on this corpus, or pass the corpus it came from."
        )


def same_protocol(
    left: Tokenizer | TokenShards | Checkpoint | EvalReport, right: Tokenizer | TokenShards | Checkpoint | EvalReport
) -> None:
    """Both speak the same tokens, special ids and chat template."""
    if left.protocol_digest != right.protocol_digest:
        raise ContractError(
            f"chat protocols differ: {_name(left)} has {left.protocol_digest[:12]}, {_name(right)} has "
            f"{right.protocol_digest[:12]}. Both must come from one tokenizer; rerun the stages below the tokenizer."
        )


def decontaminated(training_data: Corpus | Demonstrations | Comparisons, suites: Suites) -> None:
    """The items we score were removed from what we train on."""
    if training_data.suites_digest != suites.digest:
        raise ContractError(
            f"{_name(training_data)} was decontaminated against suites {training_data.suites_digest[:12]}, but the "
            f"evaluation uses {suites.digest[:12]}: scores could be memorised. Rebuild it against these suites."
        )


def has_role(checkpoint: Checkpoint, *roles: str) -> None:
    """The checkpoint is at the point of the chain this stage starts from."""
    if checkpoint.role not in roles:
        raise ContractError(f"expected a checkpoint with role {' or '.join(roles)}, found {checkpoint.role!r}.")


def report_on(report: EvalReport, checkpoint_digest: str) -> None:
    """The report measures exactly this checkpoint."""
    if report.checkpoint_digest != checkpoint_digest:
        raise ContractError(
            f"expected a report on checkpoint {checkpoint_digest[:12]}, found one on {report.checkpoint_digest[:12]}. "
            "Evaluate this checkpoint."
        )


def comparable(candidate: EvalReport, live: EvalReport) -> None:
    """Both reports scored the same items in the same way."""
    if candidate.suites_digest != live.suites_digest:
        raise ContractError(
            f"evaluation suites differ: candidate {candidate.suites_digest[:12]}, live {live.suites_digest[:12]}. "
            "Re-evaluate the live checkpoint on the candidate's suites before gating."
        )


def decided_for(decision: GateDecision, checkpoint: Checkpoint, report: EvalReport) -> None:
    """The decision was made for exactly this checkpoint, on exactly this report."""
    if (decision.checkpoint_digest, decision.report_digest) != (checkpoint.digest, report.digest):
        raise ContractError(
            f"the decision is for checkpoint {decision.checkpoint_digest[:12]}, report {decision.report_digest[:12]}; "
            f"found checkpoint {checkpoint.digest[:12]} and report {report.digest[:12]}. Gate this checkpoint."
        )


def _name(artifact: Artifact) -> str:
    return f"{type(artifact).__name__} {artifact.digest[:12]}"
