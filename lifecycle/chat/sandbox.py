"""Renders a foreign template in a process of its own, with little memory, no files, and seconds to live."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle.errors import ContractError

MEMORY_BYTES = 512 * 2**20
CPU_SECONDS = 10
WALL_SECONDS = 60  # on a busy machine ten seconds of work take longer
ANSWER_BYTES = 64 * 2**20
ROOT = Path(__file__).parents[2]


class Asked(NamedTuple):
    """A conversation to render; symbolic: with holes for contents."""

    messages: Sequence[Mapping[str, Any]]
    prompt: bool
    symbolic: bool


def render(template: str, variables: Mapping[str, str], asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """For each conversation `found`, `refused` (by the template) or `unprovable`; ContractError past the limits."""
    request = {
        "template": template,
        "variables": dict(variables),
        "conversations": [one._asdict() for one in asked],
        "memory_bytes": MEMORY_BYTES,
        "cpu_seconds": CPU_SECONDS,
    }
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.defpath,
        "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8:surrogatepass",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "lifecycle.chat.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
    )
    try:
        said, _ = child.communicate(json.dumps(request).encode(), timeout=WALL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise _past_limits("does not end") from None
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _past_limits(f"does not end within {CPU_SECONDS} s of computing")
    if child.returncode != 0 or len(said) > ANSWER_BYTES:
        raise _past_limits(f"ends its process (code {child.returncode}, {len(said)} bytes written)")
    found: list[dict[str, Any]] = json.loads(said)
    return found


def _past_limits(what: str) -> ContractError:
    return ContractError(
        f"expected a chat template that renders a few messages within {CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB, "
        f"found one that {what}. It is not run again; write a chat_template.jinja that only arranges messages."
    )
