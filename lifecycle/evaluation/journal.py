"""Work that survives a kill: every batch's results are on disk before the next is asked for, and shared between ranks.

A batch is named by its content, so whatever was done before, by whichever rank, is found; what is asked differently
(another batch size after a restart, say) is done again.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import orjson


class Peers(Protocol):
    """The ranks that share the work."""

    rank: int
    ranks: int

    def wait(self) -> None:
        """Until every rank has come here."""


class Alone:
    """One process."""

    rank, ranks = 0, 1

    def wait(self) -> None:
        return


class Journal:
    """Results by batch, in files that are only appended to. A line torn by a kill counts for nothing."""

    def __init__(self, folder: Path, peers: Peers) -> None:
        self.folder, self.peers = folder, peers
        self.seconds: dict[str, float] = {}
        self._results: dict[str, list[Any]] = {}
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._read()
        peers.wait()  # before any rank begins a new file, which another might half read
        attempt = len(list(folder.glob(f"rank-{peers.rank}-*.jsonl")))
        self._file = folder / f"rank-{peers.rank}-{attempt}.jsonl"

    def run(
        self,
        batches: Sequence[Sequence[Any]],
        work: Callable[[Sequence[Any]], list[Any]],
        *,
        settings: Any,
        pool: Executor,
        done: Callable[[int], None],
    ) -> list[Any]:
        """One result (plain JSON data) for each element of each batch, flat and in order. Ranks share the batches out.

        `settings` is whatever else the results depend on; `done` is told how many elements are finished.
        """
        keys = [_key(settings, batch) for batch in batches]
        todo = [number for number, key in enumerate(keys) if key not in self._results]
        mine = todo[self.peers.rank :: self.peers.ranks]
        finished = sum(len(batch) for key, batch in zip(keys, batches, strict=True) if key in self._results)
        for number in pool.map(lambda number: self._do(number, keys[number], batches[number], work), mine):
            finished += len(batches[number]) * self.peers.ranks
            done(finished)
        if self.peers.ranks > 1:
            self.peers.wait()
            self._read()
            self.peers.wait()  # a rank that went on would leave more to read, and the ranks would not share out alike
        return [result for key in keys for result in self._results[key]]

    def seconds_of(self, batches: Sequence[Sequence[Any]], *, settings: Any) -> list[float]:
        """For each element, in order: its share of the seconds its batch took."""
        shares = [self.seconds[_key(settings, batch)] / len(batch) for batch in batches]
        return [share for share, batch in zip(shares, batches, strict=True) for _ in batch]

    def _do(self, number: int, key: str, batch: Sequence[Any], work: Callable[[Sequence[Any]], list[Any]]) -> int:
        started = time.monotonic()
        results = work(batch)
        assert len(results) == len(batch)
        self._keep(key, results, round(time.monotonic() - started, 6))
        return number

    def _keep(self, key: str, results: list[Any], seconds: float) -> None:
        line = orjson.dumps({"key": key, "seconds": seconds, "results": results}, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            with self._file.open("ab") as file:
                file.write(line)
            self._results[key], self.seconds[key] = results, seconds

    def _read(self) -> None:
        for path in sorted(self.folder.glob("rank-*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    known = orjson.loads(line)
                    key, results, seconds = known["key"], known["results"], known["seconds"]
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue
                self._results.setdefault(key, results)
                self.seconds.setdefault(key, seconds)


def _key(settings: Any, batch: Sequence[Any]) -> str:
    return sha256(orjson.dumps([settings, list(batch)], default=list)).hexdigest()
