"""The commands of `python -m lifecycle`. A command is a function on parsed options; `add` says what it takes.

They look and print, and import what is heavy only when they are asked for: `show` answers in 0.3 s.
"""

import argparse
import os
from pathlib import Path

from lifecycle.errors import StoreError
from lifecycle.store import Store


def of_a_store(command: argparse.ArgumentParser, *, json: bool = False) -> None:
    """The options that commands on a store share."""
    command.add_argument("--store", default=os.environ.get("LIFECYCLE_STORE", ".lifecycle"), metavar="DIR")
    if json:
        command.add_argument("--json", action="store_true", help="for programs")


def existing_store(folder: str) -> Store:
    """The store in a folder: looking makes nothing."""
    if not (Path(folder) / "runs").is_dir():
        raise StoreError(f"expected an artifact store at {folder}, found none. Use --store, or `make run` to make one.")
    return Store(Path(folder))
