"""A process that does one task after the other: `-m lifecycle.workers.spread SOCKET`, started by lifecycle.engines.

It answers on the socket whose number it is given, until nobody holds the other end any more.
"""

import faulthandler
import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from lifecycle.errors import LifecycleError, WorkerFailed


def serve(connection: Connection) -> None:
    """Answer each pickled (work, task) with (False, result) or (True, error)."""
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(answer(message))


def answer(message: bytes) -> bytes:
    """The pickled answer to one message."""
    try:
        work, task = pickle.loads(message)
        return _pickled(False, work(task))
    except Exception as error:
        if not isinstance(error, LifecycleError):  # ours say all in their message
            error.add_note("".join(traceback.format_exception(error)))
        try:
            pickle.loads(told := _pickled(True, error))
        except Exception:  # some errors cannot be pickled, or not be read again: their words can
            told = _pickled(True, WorkerFailed("".join(traceback.format_exception(error))))
        return told


def _pickled(failed: bool, content: Any) -> bytes:
    return pickle.dumps((failed, content), protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    faulthandler.enable()
    serve(Connection(int(sys.argv[1])))
