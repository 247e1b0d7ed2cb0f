"""Work for tests of `spread`, where processes of engines can import it."""

import os
import signal
import time
from pathlib import Path

from lifecycle.errors import InputError


def doubled(number: int) -> int:
    return 2 * number


def doubled_after_a_while(number: int) -> int:
    """The first tasks end last."""
    time.sleep(0.02 * (5 - number))
    return 2 * number


def refused_from_two(number: int) -> int:
    """Task 2 and all after it are refused; the later, the sooner."""
    time.sleep(0.02 * (5 - number))
    if number >= 2:
        raise InputError(f"expected less than 2, found {number}. Ask for less.")
    return number


def divided(number: int) -> float:
    return 1 / number


def process_of(_task: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def killed_once(task: tuple[int, Path]) -> int:
    """Dies of SIGKILL in its first try of task 1; leaves a line for every try."""
    number, folder = task
    tries = folder / f"tries-{number}"
    with tries.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if number == 1 and len(tries.read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def killed_always(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def slept(task: tuple[int, Path]) -> None:
    """Says who it is, and works for a minute."""
    number, folder = task
    (folder / f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(60)


def environment_of(_task: int) -> dict[str, str]:
    return dict(os.environ)
