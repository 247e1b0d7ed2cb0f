"""The file behind the ledger: entries appended one a line, each chained to the one before by its hash.

An append takes three durable steps: the journal announces the entry, its line is written, the journal confirms it.
Killed before the line is whole, it never happened; killed after, it did. A file that ends before what the journal
confirmed was cut, and one that goes on after what it announced was written past us: both are refused, where a hash
chain alone sees nothing wrong with a shorter history.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.errors import StoreError
from lifecycle.sealing import write_atomically

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
    policy: str | None = None  # absent in ledgers begun before it was recorded
    approver: str | None = None  # the same; None where the policy asks for nobody
    replaced: str | None
    reason: str
    at: str
    previous_hash: str
    hash: str = ""

    def sealed(self) -> "Entry":
        # Only what was written counts: an entry from before a field was added keeps the hash it had.
        body = json.dumps(self.model_dump(exclude={"hash"}, exclude_unset=True), sort_keys=True)
        return self.model_copy(update={"hash": hashlib.sha256(body.encode()).hexdigest()})


class Journal(BaseModel):
    """The entry that was last to be appended, and whether it is known to have reached the disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: Literal["announced", "confirmed"]
    entry: Entry


class History:
    """An append-only file of entries. Appending needs the lock, reading does not."""

    def __init__(self, file: Path, lock: Callable[[], AbstractContextManager[None]]) -> None:
        self.file = file
        self.journal_file = file.with_name(f"{file.stem}.journal.json")
        self._lock = lock

    def read(self) -> list[Entry]:
        """Every entry, oldest first, the chain checked. A torn last line (a crash while appending) never happened."""
        try:
            return self.read_locked()
        except StoreError:
            # A writer that cuts off what a crash tore can be seen half-way. What is wrong under the lock is wrong.
            with self._lock():
                return self.read_locked()

    def read_locked(self) -> list[Entry]:
        """The same for whoever holds the lock."""
        before = self.journal()
        entries = parse(self._content(), self.file)
        after = self.journal()
        if before is not None and before.state == "confirmed" and before.entry not in entries[before.entry.seq :]:
            raise StoreError(
                f"{self.file}: expected entry {before.entry.seq}, {before.entry.hash[:12]}, which was confirmed, found "
                f"{len(entries)} entries without it. Somebody cut history; restore it from a backup."
            )
        if after is not None and entries and entries[-1].seq >= after.entry.seq and entries[-1] != after.entry:
            raise StoreError(
                f"{self.file}:{len(entries)}: expected {after.entry.hash[:12]} to be the last entry, found "
                f"{entries[-1].hash[:12]}, which was never announced. Somebody wrote to the file; remove what he added."
            )
        if after is not None and after.state == "announced" and after.entry in entries[-1:]:
            self._make_durable()  # whoever wrote it may be dead: what we tell must not vanish in a power cut
        return entries

    def journal(self) -> Journal | None:
        """What was last announced or confirmed; None before the first append."""
        try:
            return Journal.model_validate_json(self.journal_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"expected a readable journal at {self.journal_file}, found: {error}. Restore it from a backup."
            ) from error

    def append(self, entry: Entry) -> None:
        """Write one entry; whoever calls holds the lock and has read the history under it."""
        try:
            for leftover in self.file.parent.glob(f".{self.journal_file.name}.*.tmp"):  # of a writer that was killed
                leftover.unlink()
            self._say("announced", entry)
            with self.file.open("ab") as file:
                file.truncate(self.file.read_bytes().rfind(b"\n") + 1)  # drop a line a crash tore
                file.write(entry.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _fsync(self.file.parent)  # a file just made must still be there after a power cut
            self._say("confirmed", entry)
        except OSError as error:
            raise StoreError(
                f"expected to append to the ledger {self.file}, found: {error}. Free the disk or mend its permissions, "
                "then run the same command again: it reads what was written, and does the rest."
            ) from error

    def _say(self, state: Literal["announced", "confirmed"], entry: Entry) -> None:
        write_atomically(self.journal_file, Journal(state=state, entry=entry).model_dump_json().encode())

    def _content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(f"expected a readable ledger at {self.file}, found: {error}. Mend it.") from error

    def _make_durable(self) -> None:
        _fsync(self.file)
        _fsync(self.file.parent)


def parse(content: bytes, file: Path) -> list[Entry]:
    """The entries in `content`; StoreError where a line is none, or does not follow from the one before."""
    entries: list[Entry] = []
    for number, line in enumerate(content.split(b"\n")[:-1]):  # what follows the last newline was never finished
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError as error:
            raise StoreError(f"{file}:{number + 1}: not a ledger entry ({error}). Restore it from a backup.") from error
        expected = entries[-1].hash if entries else GENESIS
        if entry.previous_hash != expected or entry.sealed().hash != entry.hash or entry.seq != number:
            raise StoreError(
                f"{file}:{number + 1}: the hash chain is broken (expected {expected[:12]}, found "
                f"{entry.previous_hash[:12]}). Somebody edited history; restore it from a backup."
            )
        entries.append(entry)
    return entries


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
