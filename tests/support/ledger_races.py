"""Processes that promote, roll back and read one ledger at once, some of them killed: what each did, and when.

As a program it plays many histories and prints what came out: `python ledger_races.py STORE HISTORIES SEED [MUTANT]`.
"""

import contextlib
import functools
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from linearizability import Call, Line, Made, is_linearizable
from releases import make_release

from lifecycle import provenance
from lifecycle.artifacts import Release
from lifecycle.errors import LifecycleError
from lifecycle.ledger import Ledger
from lifecycle.store import Store

NAMES = "abc"
WORKERS, OPERATIONS = 3, 4
KILLED_SHARE = 0.9
BEGINNINGS = [
    [],
    [("promote", "a", None), ("promote", "ba", "a"), ("rollback", "a", "ba")],
    [("promote", "b", None), ("promote", "ab", "b"), ("promote", "ca", "ab"), ("rollback", "b", "ca")],
]
"""What happened before all begin at once."""


class Pool:
    """Every release a history may need: each checkpoint decided against nothing and against each other one."""

    def __init__(self, store: Store) -> None:
        first = {name: make_release(store, name) for name in NAMES}
        pairs = [(a, b) for a in NAMES for b in NAMES if a != b]
        over = {f"{a}{b}": make_release(store, a, against=first[b]) for a, b in pairs}
        self.releases: dict[str, Release] = {**first, **over}
        self.names = {release.digest: name for name, release in self.releases.items()}
        self.made = {name: Made(name[0], name[1:] or None) for name in self.releases}

    def digest(self, name: str | None) -> str | None:
        return self.releases[name].digest if name else None


class Worker:
    """Does a few operations, each noted in a file before it is begun and after it came back."""

    def __init__(self, ledger: Ledger, pool: Pool, notes: Path, seed: int) -> None:
        self.ledger, self.pool = ledger, pool
        self.random = random.Random(seed)
        self.notes = notes
        self.seen: list[str] = []

    def work(self, planned: Sequence[tuple[str, str, str | None]] = ()) -> None:
        notes = os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in range(len(planned) or OPERATIONS):
            kind, release, expected, by_name = (*planned[number], False) if planned else self.choose()
            call = {"kind": kind, "release": release, "expected": expected, "by_name": by_name}
            os.write(notes, json.dumps({**call, "called": time.monotonic_ns()}).encode() + b"\n")
            outcome = self.do(kind, release, expected, by_name)
            os.write(notes, json.dumps({"returned": time.monotonic_ns(), "outcome": outcome}).encode() + b"\n")
        os.close(notes)

    def choose(self) -> tuple[str, str | None, str | None, bool]:
        """Mostly what follows from what was last seen; now and then something stale."""
        live = self.seen[-1] if self.seen else None
        kind = self.random.choices(["read", "promote", "rollback"], [2, 4, 3])[0]
        if kind == "read" or (kind == "rollback" and live is None):
            return "read", None, None, False
        if kind == "rollback":
            return "rollback", self.random.choice(self.seen), live, False
        name = self.random.choice(NAMES)
        opponent = live[0] if live and self.random.random() < 0.9 else None
        release = name if opponent in (None, name) else name + opponent
        return "promote", release, live, self.random.random() < 0.3

    def do(self, kind: str, release: str | None, expected: str | None, by_name: bool) -> str:
        pool = self.pool
        try:
            if kind == "read":
                self.seen = [pool.names[entry.release] for entry in self.ledger.entries()]
                return " ".join(self.seen)
            made, digest = pool.releases[str(release)], pool.digest(expected)
            if kind == "promote":
                entry = self.ledger.promote(made, expected=digest, reason="race", by_name=by_name)
            else:
                entry = self.ledger.rollback(made, expected=str(digest), reason="race")
        except LifecycleError as error:
            return type(error).__name__
        self.seen = [*self.seen, pool.names[entry.release]]
        return f"entry {entry.seq}"


took = [0.005]
"""Seconds that histories nobody was killed in took, so that a kill falls into one on a machine of any speed."""


def in_processes(workers: list[Worker], chance: random.Random) -> int:
    """Every worker in a process of its own, some killed with SIGKILL at a random moment; how many were."""
    children, started = [], time.monotonic()
    for worker in workers:
        child = os.fork()
        if child == 0:
            try:
                worker.work()
            finally:
                os._exit(0)
        children.append(child)
    killed = 0
    is_killed = chance.random() < KILLED_SHARE
    if is_killed:
        time.sleep(chance.random() * statistics.median(took[-20:]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)
    for child in children:
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if not is_killed:
        took.append(time.monotonic() - started)
    return killed


def in_threads(workers: list[Worker], _chance: random.Random) -> int:
    threads = [threading.Thread(target=worker.work) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def calls_in(notes: Path) -> Iterator[Call]:
    """What a worker noted; a call without an answer is one it was killed in."""
    lines = [json.loads(line) for line in notes.read_bytes().split(b"\n")[:-1]] if notes.exists() else []
    for number in range(0, len(lines), 2):
        answer = lines[number + 1] if number + 1 < len(lines) else {}
        yield Call(**lines[number], **answer)


class Unlocked(Ledger):
    """A mutant: two writers at once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.store = Store(store.root)
        self.store.lock = lambda _: contextlib.nullcontext()  # type: ignore[method-assign,assignment]


class Unconditional(Ledger):
    """A mutant: whatever is live may be replaced."""

    def promote(self, release, *, expected, reason, by_name=False):
        live = self.live()
        return super().promote(release, expected=live.release if live else None, reason=reason, by_name=by_name)


class Forgetful(Ledger):
    """A mutant: what was read once is told for ever."""

    def entries(self):
        self.known = getattr(self, "known", None) or super().entries()
        return self.known


MUTANTS = {"none": Ledger, "unlocked": Unlocked, "unconditional": Unconditional, "forgetful": Forgetful}


def play(root: Path, histories: int, seed: int, mutant: str) -> dict[str, object]:
    """Play histories on one store, the ledger new each time; how many were linearizable, and what happened in them."""
    store = Store(root)
    pool = Pool(store)
    # The releases never change here, and to read them again for every operation costs five times the rest.
    provenance.proven = functools.cache(provenance.proven)  # type: ignore[assignment]
    for release in pool.releases.values():
        provenance.proven(store, release.path)
    ledger = Ledger(store)
    bad, killed, calls_made, unanswered, outcomes = [], 0, 0, 0, dict[str, int]()
    for number in range(histories):
        chance = random.Random(seed * 1_000_003 + number)
        for file in (ledger.file, ledger.history.journal_file, *root.glob("notes-*"), *root.glob(".ledger*")):
            file.unlink(missing_ok=True)
        first, *workers = [
            Worker(MUTANTS[mutant](store), pool, root / f"notes-{n}", chance.getrandbits(32))
            for n in range(WORKERS + 1)
        ]
        if beginning := BEGINNINGS[number % len(BEGINNINGS)]:
            first.work(beginning)
        for worker in workers:
            worker.seen = first.seen
        killed += (in_threads if number % 4 == 3 else in_processes)(workers, chance)
        calls = [call for worker in (first, *workers) for call in calls_in(worker.notes)]
        try:
            final: tuple[Line, ...] = tuple((e.action, pool.names[e.release]) for e in ledger.entries())
            good = is_linearizable(calls, pool.made, final)
        except LifecycleError:
            good = False
        if not good:
            bad.append(number)
        calls_made += len(calls)
        unanswered += sum(call.outcome is None for call in calls)
        for call in calls:
            kind = (call.outcome or "killed").split()[0] if call.kind != "read" else "read"
            outcomes[f"{call.kind} {kind}"] = outcomes.get(f"{call.kind} {kind}", 0) + 1
    return {
        "histories": histories,
        "not_linearizable": bad,
        "killed": killed,
        "calls": calls_made,
        "unanswered": unanswered,
        "outcomes": dict(sorted(outcomes.items())),
    }


if __name__ == "__main__":
    place, count, start, *mutants = sys.argv[1:]
    print(json.dumps(play(Path(place), int(count), int(start), (mutants or ["none"])[0])))
