"""What a stage would find minutes later, found before anything heavy is imported: every row a run will read."""

import sys
from collections.abc import Callable

from pydantic import BaseModel

from lifecycle.data.sources.files import stored_bytes
from lifecycle.recipes import LifecycleConfig, raw_files
from lifecycle.sealing import StageConfig

# 3 MB of gzipped rows, the tiny recipe, take 0.6 s. What would keep a person waiting is left to the stage itself.
LARGEST_INPUT_BYTES = 32 * 2**20


def check_rows(config: LifecycleConfig) -> None:
    """Raise InputError, naming file and line, where a stage would refuse its raw files.

    A stage that reads some says how: `check_rows(config)` in its module does its reading and nothing else, and
    `check_names(config)` looks at names alone, however large the files are.
    """
    parts = [getattr(config, stage) for stage in config.stages]
    for part in parts:
        if check := _check("check_names", part):
            check(part)
    read = [(check, part) for part in parts if (check := _check("check_rows", part))]
    if sum(input_bytes(part) for _, part in read) <= LARGEST_INPUT_BYTES:
        for check, part in read:
            check(part)


def _check(name: str, part: StageConfig) -> Callable[[StageConfig], None] | None:
    return getattr(sys.modules[type(part).__module__], name, None)


def input_bytes(config: BaseModel) -> int:
    """Size of every raw file a configuration names, and of all that is in the folders it names."""
    return sum(stored_bytes(path) for _, path in raw_files(config))
