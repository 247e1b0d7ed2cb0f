"""What was promoted, when, by which decision. The last entry says what is live.

MLflow's aliases mirror it; when they differ, the ledger is right. How entries are kept is in `history`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from lifecycle import provenance
from lifecycle.artifacts import Release
from lifecycle.errors import ApprovalMissing, PromotionBlocked, PromotionConflict, ReleaseWithdrawn
from lifecycle.history import GENESIS, Entry, History
from lifecycle.provenance import Provenance
from lifecycle.store import Store

__all__ = ["Entry", "Ledger"]


class Ledger:
    """The history of one store's live release."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.file = store.root / "ledger.jsonl"
        self.history = History(self.file, lambda: store.lock("ledger"))

    def entries(self) -> list[Entry]:
        """Every entry, oldest first, the chain checked."""
        return self.history.read()

    def live(self) -> Entry | None:
        """The entry that says what is live now."""
        return _last(self.entries())

    def live_at(self, moment: datetime) -> Entry | None:
        """The entry that said what was live then; None before the first promotion."""
        return _last([entry for entry in self.entries() if datetime.fromisoformat(entry.at) <= moment])

    def previous(self) -> Entry | None:
        """What to go back to: what the live release was promoted over.

        After a rollback this is not the release one went back from. Going back twice must not bring the bad one back.
        """
        entries = self.entries()
        return _promoted_over(entries, entries[-1]) if entries else None

    def opponent_of(self, checkpoint_digest: str) -> Entry | None:
        """What a candidate must be compared with: the live release, or, if it *is* live, the one it was promoted over.

        A rollback does not change what a release was promoted over, so a rerun after one gives the same decision again.
        Nor does a second release of the same checkpoint, say with another card: nothing is compared with itself.
        """
        entries = self.entries()
        opponent = _last(entries)
        while opponent is not None and opponent.checkpoint == checkpoint_digest:
            opponent = _promoted_over(entries, opponent)
        return opponent

    def withdrawn(self) -> dict[str, Entry]:
        """Checkpoints that a rollback took away and nobody brought back by name, each with that rollback."""
        return withdrawn(self.entries())

    def refuse_withdrawn(self, release: Release) -> None:
        """Raise ReleaseWithdrawn where somebody rolled its checkpoint back: nobody is asked about it again."""
        _refuse_withdrawn(self.entries(), release)

    def promote(
        self,
        release: Release,
        *,
        expected: str | None,
        reason: str,
        by_name: bool = False,
        approver: str | None = None,
    ) -> Entry:
        """Make `release` live if `expected` (a release digest, or None) still is. Repeating it changes nothing.

        Every byte of the candidate, its report and its decision is verified first. Raises PromotionBlocked when they do
        not belong together or do not say PROMOTE; ApprovalMissing when their policy asks for an `approver` and there is
        none; ReleaseWithdrawn when the checkpoint was rolled back, unless somebody asks for it `by_name`;
        PromotionConflict when the live release is another one by now, or not the one the decision compared with.
        """
        proof = provenance.proven(self.store, release.path)
        with self.store.lock("ledger"):
            entries = self.history.read_locked()
            live = _last(entries)
            if live is not None and live.release == release.digest:
                return live
            if not by_name:
                _refuse_withdrawn(entries, release)
            if proof.needs_approval and not approver:
                raise ApprovalMissing(
                    f"expected an approver for release {release.digest[:12]}, as its policy asks, found "
                    "none. Look at its decision, then: "
                    f'python -m flows.promote --release {release.digest[:12]} --approver NAME --reason "..."'
                )
            found = live.release if live else None
            if found != expected:
                raise PromotionConflict(
                    f"expected {short(expected)} to be live, found {short(found)}: somebody promoted meanwhile. "
                    "Run the same command again; it will be gated against what is live now."
                )
            opponent = live.checkpoint if live else None
            if opponent not in (proof.against, release.checkpoint_digest):
                raise PromotionConflict(
                    f"expected a decision against what is live, {short(opponent)}, found one against "
                    f"{short(proof.against)}. Run the same command again; it will be gated against what is live."
                )
            return self._append(entries, "promote", proof, reason, approver)

    def rollback(self, release: Release, *, expected: str, reason: str, approver: str | None = None) -> Entry:
        """Make an earlier release live again. Repeating it changes nothing. It waits for nobody's approval.

        Refused when a file of it, or of what it was promoted on, is gone or changed: what is live then stays live.
        """
        proof = provenance.proven(self.store, release.path)
        with self.store.lock("ledger"):
            entries = self.history.read_locked()
            if release.digest not in {entry.release for entry in entries}:
                raise PromotionBlocked(f"release {release.digest[:12]} was never live. Promote it through the gate.")
            if entries[-1].release == release.digest:
                return entries[-1]
            if entries[-1].release != expected:
                raise PromotionConflict(
                    f"expected {short(expected)} to be live, found {short(entries[-1].release)}: somebody moved it "
                    "meanwhile. Look at `python -m lifecycle audit`, then decide again."
                )
            return self._append(entries, "rollback", proof, reason, approver)

    def _append(
        self,
        entries: Sequence[Entry],
        action: Literal["promote", "rollback"],
        proof: Provenance,
        reason: str,
        approver: str | None,
    ) -> Entry:
        live, now = _last(entries), datetime.now(UTC).isoformat(timespec="microseconds")
        entry = Entry(
            seq=len(entries),
            action=action,
            release=proof.release.digest,
            checkpoint=proof.checkpoint.digest,
            decision=proof.decision.digest,
            report=proof.report.digest,
            policy=proof.policy,
            approver=approver,
            replaced=live.release if live else None,
            reason=reason,
            at=now if live is None else _later(now, live.at),
            previous_hash=live.hash if live else GENESIS,
        ).sealed()
        self.history.append(entry)
        return entry


def withdrawn(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Checkpoints that a rollback took away and that were not made live since, each with that rollback.

    A rollback takes away what it replaces and all that was promoted after the release it goes back to: who goes back
    behind three releases trusts none of them.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.action == "rollback":
            earlier = entries[: entry.seq]
            last_live = max((e.seq for e in earlier if e.release == entry.release), default=-1)
            for after in earlier[last_live + 1 :]:
                if after.action == "promote" or after.release == entry.replaced:
                    found[after.checkpoint] = entry
        found.pop(entry.checkpoint, None)
    return found


def short(digest: str | None) -> str:
    return digest[:12] if digest else "no release"


def _refuse_withdrawn(entries: Sequence[Entry], release: Release) -> None:
    rollback = withdrawn(entries).get(release.checkpoint_digest)
    if rollback is not None:
        raise ReleaseWithdrawn(
            f"expected a candidate that nobody withdrew, found checkpoint {release.checkpoint_digest[:12]}, rolled "
            f"back on {rollback.at} (ledger entry {rollback.seq}): {rollback.reason!r}. It does not come back by "
            "itself; who wants it live again says so: "
            f'python -m flows.promote --release {release.digest[:12]} --reason "..."'
        )


def _promoted_over(entries: Sequence[Entry], entry: Entry) -> Entry | None:
    """The entry that `entry`'s release replaced when it was last promoted: rollbacks do not count."""
    so_far = entries[: entry.seq + 1]
    made_live = next(e for e in reversed(so_far) if e.release == entry.release and e.action == "promote")
    return _last([e for e in entries[: made_live.seq] if e.release == made_live.replaced])


def _last(entries: Sequence[Entry]) -> Entry | None:
    return entries[-1] if entries else None


def _later(now: str, last: str) -> str:
    """Time in a ledger does not run backwards, whatever was done to the clock."""
    return max(now, last, key=datetime.fromisoformat)
