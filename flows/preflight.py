"""What a stage would find minutes later, found before anything heavy is imported: every row a run will read."""

import sys

from lifecycle.data.sources.files import stored_bytes
from lifecycle.recipes import LifecycleConfig, raw_files
from lifecycle.sealing import StageConfig

# 3 MB of gzipped rows, the tiny recipe, take 0.6 s. What would keep a person waiting is left to the stage itself.
LARGEST_INPUT_BYTES = 32 * 2**20


def check_rows(config: LifecycleConfig) -> None:
    """Raise InputError, naming file and line, where a stage would refuse its raw rows.

    A stage that reads raw files says how: `check_rows(config)` in its module does its reading and nothing else.
    """
    if input_bytes(config) > LARGEST_INPUT_BYTES:
        return
    for name in type(config).model_fields:
        part = getattr(config, name)
        check = getattr(sys.modules[type(part).__module__], "check_rows", None)
        if isinstance(part, StageConfig) and check is not None:
            check(part)


def input_bytes(config: LifecycleConfig) -> int:
    """Size of every raw file a configuration names, and of all that is in the folders it names."""
    return sum(stored_bytes(path) for _, path in raw_files(config))
