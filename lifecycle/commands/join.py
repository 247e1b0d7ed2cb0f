"""`join`: make this machine one of the nodes that jobs with `launcher: nodes` run on."""

import argparse
import os
from pathlib import Path
from typing import Any

from lifecycle.launch import board_of
from lifecycle.launchers.agent import Agent


def add(commands: Any) -> None:
    """Add it to a parser."""
    join = commands.add_parser("join", help="be a node: run this machine's ranks of every multi-node job of a store")
    join.add_argument("--node-rank", type=int, required=True, metavar="K", help="which node this is: 0 leads")
    join.add_argument("--address", metavar="HOST", help="how other nodes reach this one; default: its host name")
    join.add_argument("--store", default=os.environ.get("LIFECYCLE_STORE", ".lifecycle"), metavar="DIR")
    join.add_argument("--once", action="store_true", help="leave after one job")
    join.set_defaults(run_command=serve)


def serve(options: argparse.Namespace) -> int:
    """Take part in jobs until told to stop."""
    board = board_of(Path(options.store).expanduser().absolute())
    agent = Agent(board, options.node_rank, address=options.address, tell=lambda line: print(line, flush=True))
    agent.serve(once=options.once)
    return 0
