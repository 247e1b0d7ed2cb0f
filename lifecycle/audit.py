"""Proves, for everything that was ever live, that it had a passing decision for exactly its bytes (promise P4)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle import history, provenance
from lifecycle.errors import LifecycleError, StoreError
from lifecycle.history import Entry
from lifecycle.ledger import Ledger
from lifecycle.provenance import Provenance
from lifecycle.store import Store


@dataclass(frozen=True)
class Audited:
    """One entry of the ledger, and what is wrong with it or with what it stands on."""

    entry: Entry
    fault: str | None


@dataclass(frozen=True)
class Audit:
    """The whole history, entry by entry, and the fault of the file itself."""

    entries: list[Audited]
    file_fault: str | None

    @property
    def first_break(self) -> str | None:
        """The first thing that is wrong, in the order of history; None when all of it is proven."""
        faults = (f"entry {found.entry.seq}: {found.fault}" for found in self.entries if found.fault)
        return next(faults, self.file_fault)


def audit(store: Store) -> Audit:
    """Every entry with the chain behind it, candidate, report, decision, release: every byte read and digested."""
    ledger = Ledger(store)
    try:
        entries, file_fault = ledger.entries(), None
    except StoreError as error:
        entries, file_fault = _up_to_the_break(ledger), str(error)
    proofs: dict[str, Provenance | str] = {}
    for entry in entries:
        if entry.release not in proofs:
            proofs[entry.release] = _proof(store, entry.release)
    return Audit([Audited(entry, _fault(entries, entry, proofs[entry.release])) for entry in entries], file_fault)


def aliases_file(store: Store) -> Path:
    """Where the tracker writes down which alias somebody moved by hand: one JSON object a line, `at` and `message`."""
    return store.root / "tracking" / "moved-aliases.jsonl"


def moved_aliases(store: Store) -> list[dict[str, str]]:
    """Every alias that was ever found moved by hand, oldest first."""
    try:
        lines = aliases_file(store).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [dict(json.loads(line)) for line in lines]


def _proof(store: Store, release: str) -> Provenance | str:
    try:
        return provenance.proven(store, provenance.folder_of(store, release))
    except LifecycleError as error:
        return f"{type(error).__name__}: {error}"


def _fault(entries: Sequence[Entry], entry: Entry, proof: Provenance | str) -> str | None:
    if isinstance(proof, str):
        return proof
    said = {"checkpoint": entry.checkpoint, "report": entry.report, "decision": entry.decision}
    found = {"checkpoint": proof.checkpoint.digest, "report": proof.report.digest, "decision": proof.decision.digest}
    if entry.policy is not None:
        said, found = {**said, "policy": entry.policy}, {**found, "policy": proof.policy}
    for what, digest in said.items():
        if found[what] != digest:
            return f"expected {what} {digest[:12]} behind release {entry.release[:12]}, found {found[what][:12]}"
    before = entries[entry.seq - 1] if entry.seq else None
    replaced = before.release if before else None
    if entry.replaced != replaced:
        return f"says it replaced {entry.replaced}, but {replaced} was live"
    if entry.action == "rollback":
        was_live = entry.release in {earlier.release for earlier in entries[: entry.seq]}
        return None if was_live else f"goes back to release {entry.release[:12]}, which was never live before"
    if proof.needs_approval and not entry.approver:
        return "promoted without an approver, although the policy of its decision asks for one"
    opponent = before.checkpoint if before else None
    if opponent not in (proof.against, entry.checkpoint):
        return f"promoted over checkpoint {opponent}, on a decision against {proof.against}"
    return None


def _up_to_the_break(ledger: Ledger) -> list[Entry]:
    """The entries before the first line that is none or does not follow."""
    try:
        lines = ledger.file.read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    for kept in range(len(lines), 0, -1):
        try:
            return history.parse(b"".join(lines[:kept]), ledger.file)
        except StoreError:
            continue
    return []
