"""Every contract, broken once on purpose, and the message read."""

from pathlib import Path

import pytest

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Corpus, EvalReport, GateDecision, Suites, Tokenizer
from lifecycle.errors import ContractError
from lifecycle.sealing import Artifact, StageConfig


class Config(StageConfig):
    stage = "test"


def sealed(path: Path, kind: type[Artifact], *inputs: Artifact, **facts) -> Artifact:
    path.mkdir()
    return kind(path=path, **facts).seal(Config(), *inputs)


def suites(path: Path, share: float = 0.5) -> Suites:
    return sealed(path, Suites, items={"contract": 2}, baselines={"contract": share})


def corpus(path: Path, suites_digest: str) -> Corpus:
    return sealed(path, Corpus, train_documents=1, validation_documents=1, sources={}, suites_digest=suites_digest)


def tokenizer(path: Path, *inputs: Artifact, protocol: str = "p" * 64) -> Tokenizer:
    ids = {"bos_id": 0, "pad_id": 1, "stop_id": 2}
    return sealed(path, Tokenizer, *inputs, vocab_size=8, protocol_digest=protocol, **ids)


def checkpoint(path: Path, role: str = "base", protocol: str = "p" * 64) -> Checkpoint:
    numbers = {"parameters": 1, "max_seq_len": 8, "steps": 1, "tokens_seen": 1, "final_loss": 1.0}
    return sealed(path, Checkpoint, role=role, protocol_digest=protocol, **numbers)


def report(path: Path, of: str, suites_digest: str = "s" * 64) -> EvalReport:
    digests = {"checkpoint_digest": of, "protocol_digest": "p" * 64, "suites_digest": suites_digest}
    return sealed(path, EvalReport, scores={}, baselines={}, **digests)


def test_a_tokenizer_of_another_corpus_is_refused(tmp_path):
    one, other = corpus(tmp_path / "one", "s" * 64), corpus(tmp_path / "other", "t" * 64)
    contracts.trained_on(tokenizer(tmp_path / "tokenizer", one), one)
    with pytest.raises(ContractError, match=f"on Corpus {other.digest[:12]}, .* from Corpus {one.digest[:12]}"):
        contracts.trained_on(tokenizer(tmp_path / "wrong", one), other)


def test_another_chat_protocol_is_refused_and_both_digests_named(tmp_path):
    base, other = checkpoint(tmp_path / "base"), tokenizer(tmp_path / "other", protocol="q" * 64)
    with pytest.raises(ContractError, match=r"p{12}.*q{12}"):
        contracts.same_protocol(base, other)


def test_training_data_that_was_not_cleaned_of_these_items_is_refused(tmp_path):
    items, others = suites(tmp_path / "items"), suites(tmp_path / "others", share=0.4)
    contracts.decontaminated(corpus(tmp_path / "clean", items.digest), items)
    with pytest.raises(ContractError, match="could be memorised"):
        contracts.decontaminated(corpus(tmp_path / "dirty", others.digest), items)


def test_preference_training_does_not_start_from_a_base_checkpoint(tmp_path):
    with pytest.raises(ContractError, match="expected a checkpoint with role sft, found 'base'"):
        contracts.has_role(checkpoint(tmp_path / "base"), "sft")


def test_a_report_on_another_checkpoint_is_refused(tmp_path):
    with pytest.raises(ContractError, match="Evaluate this checkpoint"):
        contracts.report_on(report(tmp_path / "report", of="a" * 64), "b" * 64)


def test_reports_on_different_items_are_not_compared(tmp_path):
    one, other = report(tmp_path / "one", of="a" * 64), report(tmp_path / "other", of="a" * 64, suites_digest="t" * 64)
    with pytest.raises(ContractError, match="Re-evaluate the live checkpoint"):
        contracts.comparable(one, other)


def test_a_decision_for_another_checkpoint_releases_nothing(tmp_path):
    candidate, other = checkpoint(tmp_path / "candidate"), checkpoint(tmp_path / "other", role="sft")
    measured = report(tmp_path / "report", of=candidate.digest)
    digests = {"checkpoint_digest": candidate.digest, "report_digest": measured.digest}
    decision = sealed(tmp_path / "decision", GateDecision, verdict="PROMOTE", against=None, checks=[], **digests)
    contracts.decided_for(decision, candidate, measured)
    with pytest.raises(ContractError, match="Gate this checkpoint"):
        contracts.decided_for(decision, other, measured)
