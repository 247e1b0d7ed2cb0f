"""Look, don't run: what a store holds and proves, what something will cost, and a word with a model.

python -m lifecycle show [RUN]              runs, stages, key numbers, decisions, what is live
python -m lifecycle show corpus|tokenizer|mask [RUN]
python -m lifecycle report RUN              a run as a page; `report evaluation`, `report corpus`: those
python -m lifecycle diagnose [RUN]          which of six problems it has, and the cheapest thing to change
python -m lifecycle audit | live [--at]     what was ever promoted, with its proof; what users had
python -m lifecycle plan gate|memory|compute
python -m lifecycle talk | handoff [RUN]    chat with a model; hold a server of it against its evaluation
python -m lifecycle desk | desk export DIR  people compare answers, blind; their votes as pairs to train on
python -m lifecycle mirror push|pull PLACE  sealed artifacts to a bucket or a shared folder, and back
python -m lifecycle join --node-rank K      be a node: run this machine's ranks of multi-node jobs
"""

import argparse
import os
import sys
from collections.abc import Sequence

from lifecycle.commands import desk, diagnose, join, mirror, model, plan, proof, show
from lifecycle.errors import LifecycleError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lifecycle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for group in (show, diagnose, proof, plan, model, desk, join, mirror):
        group.add(commands)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run_command(options)
        return code
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `show --json | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
