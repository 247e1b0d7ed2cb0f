"""What was promoted, when, by which decision: append-only, each entry chained to the one before by its hash.

The last entry says what is live. MLflow's alias mirrors it; when they differ, the ledger is right.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.artifacts import GateDecision, Release
from lifecycle.errors import PromotionBlocked, PromotionConflict, StoreError
from lifecycle.store import Store

GENESIS = "0" * 64


class Entry(BaseModel):
    """One promotion or rollback."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seq: int
    action: Literal["promote", "rollback"]
    release: str
    checkpoint: str
    decision: str
    report: str
    replaced: str | None
    reason: str
    at: str
    previous_hash: str
    hash: str = ""

    def sealed(self) -> "Entry":
        body = json.dumps(self.model_dump(exclude={"hash"}), sort_keys=True)
        return self.model_copy(update={"hash": hashlib.sha256(body.encode()).hexdigest()})


class Ledger:
    """The history of one store's live release."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.file: Path = store.root / "ledger.jsonl"

    def entries(self) -> list[Entry]:
        """Every entry, oldest first, the chain checked. A torn last line (a crash while appending) never happened."""
        try:
            content = self.file.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"expected a readable ledger at {self.file}, found: {error}. Mend it.") from error
        lines = content.split(b"\n")[:-1]  # what follows the last newline was never finished
        entries: list[Entry] = []
        for number, line in enumerate(lines):
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                raise StoreError(
                    f"{self.file}:{number + 1}: not a ledger entry ({error}). Restore it from a backup."
                ) from error
            expected = entries[-1].hash if entries else GENESIS
            if entry.previous_hash != expected or entry.sealed().hash != entry.hash or entry.seq != number:
                raise StoreError(
                    f"{self.file}:{number + 1}: the hash chain is broken (expected {expected[:12]}, found "
                    f"{entry.previous_hash[:12]}). Somebody edited history; restore it from a backup."
                )
            entries.append(entry)
        return entries

    def live(self) -> Entry | None:
        """The entry that says what is live now."""
        entries = self.entries()
        return entries[-1] if entries else None

    def opponent_of(self, checkpoint_digest: str) -> Entry | None:
        """What a candidate must be compared with: the live release, or, if it *is* live, the one it was promoted over.

        A rollback does not change what a release was promoted over, so a rerun after one gives the same decision again.
        Nor does a second release of the same checkpoint, say with another card: nothing is compared with itself.
        """
        entries = self.entries()
        opponent = entries[-1] if entries else None
        while opponent is not None and opponent.checkpoint == checkpoint_digest:
            so_far = entries[: opponent.seq + 1]
            made_live = next(e for e in reversed(so_far) if e.release == opponent.release and e.action == "promote")
            before = [e for e in entries[: made_live.seq] if e.release == made_live.replaced]
            opponent = before[-1] if before else None
        return opponent

    def promote(self, release: Release, decision: GateDecision, *, expected: str | None, reason: str) -> Entry:
        """Make `release` live if `expected` (a release digest, or None) still is. Repeating it changes nothing.

        Raises PromotionBlocked unless `decision` says PROMOTE for exactly this checkpoint and this release, and
        PromotionConflict when the live release is another one by now, or not the one the decision compared with.
        """
        if not decision.promote or decision.checkpoint_digest != release.checkpoint_digest:
            raise PromotionBlocked(
                f"expected a PROMOTE decision for checkpoint {release.checkpoint_digest[:12]}, found "
                f"{decision.verdict} for {decision.checkpoint_digest[:12]}. Gate this checkpoint first."
            )
        if (release.decision_digest, release.report_digest) != (decision.digest, decision.report_digest):
            raise PromotionBlocked(
                f"expected release {release.digest[:12]} to stand on decision {decision.digest[:12]} and its report, "
                f"found {release.decision_digest[:12]} and {release.report_digest[:12]}. Release again."
            )
        with self.store.lock("ledger"):
            live = self.live()
            if live is not None and live.release == release.digest:
                return live
            found = live.release if live else None
            if found != expected:
                raise PromotionConflict(
                    f"expected {_short(expected)} to be live, found {_short(found)}: somebody promoted meanwhile. "
                    "Run the same command again; it will be gated against what is live now."
                )
            opponent = live.checkpoint if live else None
            if opponent not in (decision.against, release.checkpoint_digest):
                raise PromotionConflict(
                    f"expected a decision against what is live, {_short(opponent)}, found one against "
                    f"{_short(decision.against)}. Run the same command again; it will be gated against what is live."
                )
            return self._append("promote", release, replaced=found, reason=reason)

    def rollback(self, release: Release, *, expected: str, reason: str) -> Entry:
        """Make an earlier release live again. Its files were verified when `release` was loaded. Repeating it changes
        nothing."""
        with self.store.lock("ledger"):
            entries = self.entries()
            if release.digest not in {entry.release for entry in entries}:
                raise PromotionBlocked(f"release {release.digest[:12]} was never live. Promote it through the gate.")
            if entries[-1].release == release.digest:
                return entries[-1]
            if entries[-1].release != expected:
                raise PromotionConflict(f"expected {_short(expected)} to be live, found {_short(entries[-1].release)}.")
            return self._append("rollback", release, replaced=expected, reason=reason)

    def _append(
        self, action: Literal["promote", "rollback"], release: Release, *, replaced: str | None, reason: str
    ) -> Entry:
        entries = self.entries()
        entry = Entry(
            seq=len(entries),
            action=action,
            release=release.digest,
            checkpoint=release.checkpoint_digest,
            decision=release.decision_digest,
            report=release.report_digest,
            replaced=replaced,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            previous_hash=entries[-1].hash if entries else GENESIS,
        ).sealed()
        try:
            with self.file.open("ab") as file:
                file.truncate(self.file.read_bytes().rfind(b"\n") + 1)  # drop a line a crash tore
                file.write(entry.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _fsync_folder(self.file.parent)  # a ledger just made must still be there after a power cut
        except OSError as error:
            raise StoreError(
                f"expected to append to the ledger {self.file}, found: {error}. Free the disk or mend its permissions, "
                "then run the same command again: it reads what was written, and does the rest."
            ) from error
        return entry


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "no release"


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
