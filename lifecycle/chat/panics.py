"""Tokenizers from outside that make the library give up: an error of ours, in place of one that nothing catches.

`tokenizers` is Rust. Where its regular expressions run into their limit of retries, as a hostile or careless pattern
makes them, it panics, and Python meets that as a BaseException which no `except Exception` holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lifecycle.errors import InputError

PANIC = "PanicException"  # of pyo3, which exports no name to catch it by


@contextmanager
def refused(place: Path) -> Iterator[None]:
    """Raise InputError, naming the place, where a tokenizer panics within the block."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise InputError(
            f"{place}: expected a tokenizer that cuts any text, found one that gives up ({str(error)[:200]}). Its "
            "tokenizer.json has a pattern that tries too much; take another tokenizer."
        ) from error
