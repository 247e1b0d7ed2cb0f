"""A measurement at several sizes, each in a process of its own, so that no size sees the memory of another."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson


def print_sizes(measure: Callable[[int], Any], program: str, sizes: Sequence[int], description: str) -> None:
    """Print one line a size, and write the same to a file where asked. `program` is the module that calls this."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="also write one JSON object a size to this file")
    parser.add_argument("--documents", type=int, help="measure this size in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.documents:
        print(orjson.dumps(measure(arguments.documents)).decode())
        return
    lines = []
    for size in sizes:
        command = [sys.executable, "-m", program, "--documents", str(size)]
        lines.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        print(lines[-1], flush=True)
    if arguments.json:
        arguments.json.write_text("\n".join(lines) + "\n")
