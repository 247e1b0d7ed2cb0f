"""Renders a foreign template in a process of its own, with little memory, no files, and seconds to live."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle.errors import ContractError

MEMORY_BYTES = 512 * 2**20
CPU_SECONDS = 10
WALL_SECONDS = 300  # on a busy machine ten seconds of work take longer; one of 8 jobs a core took 40 for one second
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
    with tempfile.TemporaryFile() as question:
        question.write(json.dumps(request).encode())
        question.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "lifecycle.chat.probe"],
            stdin=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
        )
        try:
            said = _read(child)
        finally:
            child.kill()  # where it ended by itself nothing happens
            child.wait()
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _past_limits(f"does not end within {CPU_SECONDS} s of computing")
    if child.returncode != 0:
        raise _past_limits(f"ends its process (code {child.returncode}, {len(said)} bytes written)")
    found: list[dict[str, Any]] = json.loads(said)
    return found


def _read(child: subprocess.Popen[bytes]) -> bytes:
    """What the child writes until it ends, in time and of a size that is looked at as it comes."""
    assert child.stdout is not None
    said, deadline = bytearray(), time.monotonic() + WALL_SECONDS
    with child.stdout as pipe:
        while len(said) <= ANSWER_BYTES:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _past_limits("does not end")
            if not (part := os.read(pipe.fileno(), 2**20)):
                break
            said += part
    if len(said) > ANSWER_BYTES:
        raise _past_limits(f"writes more than {ANSWER_BYTES >> 20} MiB")
    try:
        child.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _past_limits("does not end") from None
    return bytes(said)


def _past_limits(what: str) -> ContractError:
    return ContractError(
        f"expected a chat template that renders a few messages within {CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB, "
        f"found one that {what}. It is not run again; write a chat_template.jinja that only arranges messages."
    )
