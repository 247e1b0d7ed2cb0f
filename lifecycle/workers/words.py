"""The small files by which the nodes of a job talk: each has one writer and is replaced by rename.

Only the standard library: see `workers.node`.
"""

import json
import os
from pathlib import Path
from typing import Any

Word = dict[str, Any]


def write(path: Path, data: Word) -> None:
    """Replace a small file: a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.rename(path)


def read(path: Path) -> Word | None:
    """What a file of the call holds; None when there is none."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return None
