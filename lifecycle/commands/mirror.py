"""`mirror push` and `mirror pull`: sealed artifacts to a bucket or a shared folder, and back."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifecycle import mirror
from lifecycle.commands import existing_store, of_a_store
from lifecycle.mirror import Moved
from lifecycle.shelves import shelf_at
from lifecycle.store import Store

PLACE = "s3://bucket/prefix or a folder; credentials and AWS_ENDPOINT_URL come from the environment"


def add(commands: Any) -> None:
    """Add both to a parser."""
    parser = commands.add_parser("mirror", help="sealed artifacts to a bucket or a shared folder, and back")
    ways = parser.add_subparsers(dest="way", required=True)
    send = ways.add_parser("push", help="publish every sealed artifact that is not there yet")
    send.set_defaults(run_command=push)
    fetch = ways.add_parser("pull", help="bring every artifact that this store does not have; each is verified")
    fetch.add_argument("--only", action="append", default=[], metavar="DIGEST", help="this artifact; repeatable")
    fetch.set_defaults(run_command=pull)
    for way in (send, fetch):
        way.add_argument("place", metavar="PLACE", help=PLACE)
        way.add_argument("--stage", action="append", default=[], metavar="STAGE", help="only of this stage; repeatable")
        of_a_store(way)


def push(options: argparse.Namespace) -> int:
    """Publish; 0 also where there was nothing to do."""
    moved = mirror.push(existing_store(options.store), shelf_at(options.place), stages=options.stage, tell=_tell)
    return _said("sent", moved)


def pull(options: argparse.Namespace) -> int:
    """Fetch, into a new store too."""
    store = Store(Path(options.store))
    moved = mirror.pull(store, shelf_at(options.place), stages=options.stage, only=options.only, tell=_tell)
    return _said("fetched", moved)


def _tell(line: str) -> None:
    print(line, flush=True)


def _said(verb: str, moved: Moved) -> int:
    print(f"{_count(moved.moved)} {verb} ({moved.bytes:,} bytes), {len(moved.present)} there already")
    for name in moved.others:
        print(f"left alone: {name} is there with other bytes (equal up to rounding, where GPUs made it)")
    return 0


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} artifact{'' if len(names) == 1 else 's'}"
