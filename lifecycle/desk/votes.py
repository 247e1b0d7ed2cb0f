"""Every vote that was ever cast, in SQLite: rows are added, none is changed, and undoing one is a row as well.

A request answered with success is on disk: `synchronous=FULL` makes SQLite fsync its log before a commit returns.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from lifecycle.errors import DamagedArtifact

T = TypeVar("T")
Choice = Literal["left", "right", "tie", "both_bad", "skip"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad", "skip")

SCHEMA = """
CREATE TABLE IF NOT EXISTS shown (
  number INTEGER PRIMARY KEY, annotator TEXT NOT NULL, item TEXT NOT NULL,
  left INTEGER NOT NULL CHECK (left IN (0, 1)),              -- which answer stands left, drawn by the server
  repeats INTEGER REFERENCES shown, at REAL NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS shown_once ON shown (annotator, item, repeats IS NULL);
CREATE TABLE IF NOT EXISTS votes (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, annotator TEXT NOT NULL,
  shown INTEGER NOT NULL REFERENCES shown,
  choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'both_bad', 'skip', 'undo')),
  undoes TEXT UNIQUE REFERENCES votes (id) CHECK ((undoes IS NOT NULL) = (choice = 'undo')),
  tags TEXT NOT NULL, seconds REAL, at REAL NOT NULL);
CREATE VIEW IF NOT EXISTS counted AS SELECT * FROM votes AS vote WHERE choice <> 'undo'
  AND NOT EXISTS (SELECT 1 FROM votes AS undo WHERE undo.undoes = vote.id);
CREATE TRIGGER IF NOT EXISTS no_change BEFORE UPDATE ON votes BEGIN SELECT RAISE(ABORT, 'votes are only added'); END;
CREATE TRIGGER IF NOT EXISTS no_loss BEFORE DELETE ON votes BEGIN SELECT RAISE(ABORT, 'votes are only added'); END;
CREATE TRIGGER IF NOT EXISTS shown_stays BEFORE UPDATE ON shown BEGIN SELECT RAISE(ABORT, 'rows are only added'); END;
CREATE TRIGGER IF NOT EXISTS shown_kept BEFORE DELETE ON shown BEGIN SELECT RAISE(ABORT, 'rows are only added'); END;
"""


class Refused(Exception):
    """A vote that cannot be counted; says why in words for the person who cast it."""


class Shown(NamedTuple):
    """One item before one person. `repeats` is the number of the earlier time, whose sides were the other way round."""

    number: int
    item: str
    left: int
    repeats: int | None


class Turn(NamedTuple):
    """What somebody is to see next."""

    item: str
    left: int
    repeats: int | None = None


class Vote(NamedTuple):
    """A vote that counts, with what its voter saw."""

    id: str
    annotator: str
    item: str
    choice: Choice
    left: int
    repeats: int | None
    shown: int
    tags: tuple[str, ...]
    seconds: float | None
    at: float

    @property
    def preferred(self) -> int | None:
        """The answer that was preferred: 0 or 1 of the item; None where neither was."""
        return {"left": self.left, "right": 1 - self.left}.get(self.choice)


class Votes:
    """The votes of one desk. Threads of one server may use it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise DamagedArtifact(f"{path}: expected the votes of a desk, found: {error}. Restore the file.") from error
        self._lock = threading.Lock()

    def show(self, annotator: str, choose: Callable[[sqlite3.Connection], Turn | None]) -> Shown | None:
        """What is before somebody now: what they have not decided on, else what `choose` says; None: nothing is left.

        It is on record before it is returned, so that a vote can be held against it.
        """
        with self._writing() as database:
            open_rows = database.execute(
                "SELECT number, item, left, repeats FROM shown WHERE annotator = ? "
                "AND NOT EXISTS (SELECT 1 FROM counted WHERE counted.shown = shown.number) ORDER BY number LIMIT 1",
                (annotator,),
            ).fetchall()
            if open_rows:
                return Shown(*open_rows[0])
            if (turn := choose(database)) is None:
                return None
            row = (annotator, turn.item, turn.left, turn.repeats, time.time())
            added = database.execute("INSERT INTO shown (annotator, item, left, repeats, at) VALUES (?,?,?,?,?)", row)
            assert added.lastrowid is not None
            return Shown(added.lastrowid, *turn)

    def cast(
        self,
        id: str,
        annotator: str,
        shown: int,
        choice: Choice,
        *,
        tags: Sequence[str] = (),
        seconds: float | None = None,
    ) -> bool:
        """Count a vote; False where this very vote was counted before: a request that was sent twice."""
        content = (annotator, shown, choice, None, json.dumps(sorted(tags)))
        with self._writing() as database:
            if _is_there(database, id, content):
                return False
            seen = database.execute("SELECT annotator FROM shown WHERE number = ?", (shown,)).fetchone()
            if seen is None or seen[0] != annotator:
                raise Refused("This comparison was not shown to you.")
            if database.execute("SELECT 1 FROM counted WHERE shown = ?", (shown,)).fetchone():
                raise Refused("You have decided on this comparison already. Undo that vote to change it.")
            _add(database, id, content, seconds)
            return True

    def undo(self, id: str, annotator: str, undoes: str) -> bool:
        """Take back somebody's last vote; False where this very request was obeyed before."""
        with self._writing() as database:
            shown = database.execute("SELECT shown FROM votes WHERE id = ?", (undoes,)).fetchone()
            content = (annotator, shown and shown[0], "undo", undoes, "[]")
            if _is_there(database, id, content):
                return False
            if _last(database, annotator) != undoes:
                raise Refused("This is not your last vote. Only the last one can be undone.")
            _add(database, id, content, None)
            return True

    def last(self, annotator: str) -> str | None:
        """The id of somebody's last vote that counts."""
        return self.read(lambda database: _last(database, annotator))

    def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What a question to the database answers; it must not write."""
        with self._lock:
            return question(self._database)

    def counted(self) -> list[Vote]:
        """Every vote that counts, in the order they were cast."""
        ask = (
            "SELECT v.id, v.annotator, s.item, v.choice, s.left, s.repeats, v.shown, v.tags, v.seconds, v.at "
            "FROM counted AS v JOIN shown AS s ON s.number = v.shown ORDER BY v.number"
        )
        rows = self.read(lambda database: database.execute(ask).fetchall())
        return [Vote(*row)._replace(tags=tuple(json.loads(row[7]))) for row in rows]

    def rows(self) -> int:
        """How many rows there are: it grows with every vote and every undo."""
        return int(self.read(lambda database: database.execute("SELECT COUNT(*) FROM votes").fetchone()[0]))

    def undone(self) -> int:
        """How many votes were taken back."""
        ask = "SELECT COUNT(*) FROM votes WHERE choice = 'undo'"
        return int(self.read(lambda database: database.execute(ask).fetchone()[0]))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone; on disk when it ends, and without a trace when it fails."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def _last(database: sqlite3.Connection, annotator: str) -> str | None:
    ask = "SELECT id FROM counted WHERE annotator = ? ORDER BY number DESC LIMIT 1"
    row = database.execute(ask, (annotator,)).fetchone()
    return None if row is None else str(row[0])


def _is_there(database: sqlite3.Connection, id: str, content: tuple[object, ...]) -> bool:
    """Whether this vote is on record; Refused where another one has its id."""
    ask = "SELECT annotator, shown, choice, undoes, tags FROM votes WHERE id = ?"
    if (row := database.execute(ask, (id,)).fetchone()) is None:
        return False
    if tuple(row) != content:
        raise Refused("Another vote was sent with the same number. It was counted, this one was not.")
    return True


def _add(database: sqlite3.Connection, id: str, content: tuple[object, ...], seconds: float | None) -> None:
    database.execute(
        "INSERT INTO votes (id, annotator, shown, choice, undoes, tags, seconds, at) VALUES (?,?,?,?,?,?,?,?)",
        (id, *content, seconds, time.time()),
    )
