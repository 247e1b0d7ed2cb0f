"""A desk on disk: what is compared, who may vote, what was said. `desk.json` is written last: without it there is none.

desk.json      what the desk was made of, and how it asks
items.jsonl    the pairs, checked against the digest in desk.json whenever the desk is opened
answers/       what was sampled for it, a file a checkpoint
people.json    a link token each
votes.sqlite   every vote
"""

import fcntl
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.desk.items import AnswerSet, Item, load_items, pair_up, read_gold, save_items
from lifecycle.desk.people import People
from lifecycle.desk.turns import Turns
from lifecycle.desk.votes import Vote, Votes
from lifecycle.errors import DamagedArtifact, InputError, StoreError
from lifecycle.sealing import canonical, sha256_file, write_atomically

RECORD = "desk.json"
ITEMS = "items.jsonl"
TAGS = ("correct", "follows instructions", "complete", "clear", "concise", "safe")


class DeskConfig(BaseModel):
    """How a desk asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: int = Field(0, description="Orders the items. Sides are drawn by chance, and recorded.")
    pairs_per_prompt: int = Field(3, ge=1, description="Where several answers make more.")
    repeat_share: float = Field(0.1, ge=0, le=1, description="Of somebody's comparisons, shown again the other way.")
    votes_per_item: int | None = Field(None, ge=1, description="People an item is shown to. None: everybody.")
    tags: tuple[str, ...] = Field(TAGS, max_length=12, description="Reasons a voter may name.")


class Record(BaseModel):
    """What a desk was made of. The same record, the same items."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    config: DeskConfig
    made_of: dict[str, Any] = Field(description="Digests of files and checkpoints, and how answers were drawn.")
    systems: dict[str, str] = Field(description="What a system is called on the summary, by what items call it.")
    items: int
    gold: int
    left_out: dict[str, int] = Field(description="Pairs that are not asked about, by reason.")
    items_sha256: str


class Desk:
    """An open desk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.record = Record.model_validate_json((folder / RECORD).read_bytes())
        except FileNotFoundError as error:
            raise InputError(f"expected a desk in {folder}, found none. Check the folder, or make one.") from error
        except ValidationError as error:
            raise DamagedArtifact(f"{folder / RECORD}: expected a desk, found: {error}. Restore the file.") from error
        found = sha256_file(folder / ITEMS)
        if found != self.record.items_sha256:
            raise DamagedArtifact(
                f"{folder / ITEMS}: expected sha256 {self.record.items_sha256[:12]}, found {found[:12]}. What people "
                "voted on was changed; restore the file."
            )
        self.items: dict[str, Item] = load_items(folder / ITEMS)
        self.people = People(folder)
        config = self.record.config
        self.turns = Turns(
            self.items, seed=config.seed, repeat_share=config.repeat_share, votes_per_item=config.votes_per_item
        )

    @cached_property
    def votes(self) -> Votes:
        """The database is made by whoever first asks for it."""
        return Votes(self.folder / "votes.sqlite")

    def digest(self, votes: Sequence[Vote]) -> str:
        """SHA-256 over what was compared and these votes: of exactly what a summary or an export was made from."""
        content = hashlib.sha256(self.record.items_sha256.encode())
        for vote in votes:
            content.update(json.dumps(vote).encode())
        return content.hexdigest()

    def system(self, name: str) -> str:
        """What a system is called."""
        return self.record.systems.get(name, name[:12] or "unnamed")


def make_desk(
    folder: Path,
    config: DeskConfig,
    made_of: dict[str, Any],
    answers: Callable[[], tuple[Sequence[AnswerSet], Counter[str]]],
    *,
    gold: Path | None = None,
    systems: dict[str, str] | None = None,
) -> Desk:
    """The desk in a folder: the one that is there, when it was made of the same things, or a new one.

    `answers` is asked only for a new one, for sampling takes minutes; it also says what it left out, by reason.
    """
    if gold is not None:
        made_of = {**made_of, "gold": sha256_file(gold)}
    if (folder / RECORD).exists():
        desk = Desk(folder)
        asked = json.loads(json.dumps(canonical({"config": config, "made_of": made_of})))
        found = json.loads(json.dumps(canonical({"config": desk.record.config, "made_of": desk.record.made_of})))
        if asked != found:
            odd = [f"{part}.{key}" for part in asked for key in _different(asked[part], found[part])]
            raise InputError(
                f"expected the desk in {folder} to be made of what was asked for, found other {', '.join(odd)}. Its "
                "votes are about those; name another --folder, or give the settings it was made with."
            )
        return desk
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # links and votes are nobody else's business
    sets, left_out = answers()
    items, not_paired = pair_up(sets, per_prompt=config.pairs_per_prompt)
    left_out = +(left_out + not_paired)
    golden = [] if gold is None else read_gold(gold)
    if not items:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items()) or "one answer to each prompt"
        raise InputError(f"expected two different answers to compare, found none: {reasons}. Sample more, or hotter.")
    save_items(folder / ITEMS, [*items, *golden])
    record = Record(
        config=config,
        made_of=made_of,
        systems=systems or {},
        items=len(items),
        gold=len(golden),
        left_out=dict(left_out),
        items_sha256=sha256_file(folder / ITEMS),
    )
    write_atomically(folder / RECORD, record.model_dump_json(indent=1).encode())
    return Desk(folder)


def hold(folder: Path) -> IO[str]:
    """A lock that one server has, until it closes it or dies however it dies."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StoreError(f"expected the desk in {folder} to be free, found it served. Use that server.") from error
    return file


def _different(asked: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*asked, *found} if asked.get(key) != found.get(key))
