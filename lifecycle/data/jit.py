"""Compiled loops, for inputs big enough to pay for them: numba's, cached on disk in a folder of our own.

Importing this module imports numba (0.4 s), so nothing imports it until a big input asks for it. The cache lies in
`NUMBA_CACHE_DIR` if set, else under `XDG_CACHE_HOME` or ~/.cache; where that cannot be written, every process compiles.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numba

F = TypeVar("F", bound=Callable[..., object])


def cache_folder() -> Path:
    """Where compiled code is kept between processes; private to this user, for what lies there is executed."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(chosen) if chosen else Path(home) / "llm-lifecycle" / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="llm-lifecycle-numba-"))


_FOLDER = str(cache_folder())


@overload
def compiled(function: F) -> F: ...
@overload
def compiled(*, fastmath: frozenset[str]) -> Callable[[F], F]: ...
def compiled(function: F | None = None, *, fastmath: frozenset[str] = frozenset()) -> F | Callable[[F], F]:
    """The function as machine code, compiled on its first call or read from the cache. It holds no GIL.

    `fastmath`: which laws of fp32 it need not keep, by LLVM's names; numba then takes 1/0 for infinity as well.
    """
    if function is None:
        return cast(Callable[[F], F], partial(compiled, fastmath=fastmath))
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = _FOLDER  # for this function alone: what others compile goes where they want it
    loose: dict[str, Any] = {"fastmath": set(fastmath), "error_model": "numpy"} if fastmath else {}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, **loose)(function))
    finally:
        settings.CACHE_DIR = before
