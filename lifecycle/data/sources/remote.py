"""Files behind a URL: brought here whole, digested as they arrive, and parsed only when they are what was pinned.

A network that breaks off is tried again; bytes that differ are not.
"""

import errno
import hashlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.files import FORMATS, format_of, parts_of_file
from lifecycle.data.sources.places import (
    URL,
    Remote,
    RemoteList,
    file_name,
    without_credentials,
    without_queries,
)
from lifecycle.data.sources.rows import Origin, Part, Placed
from lifecycle.errors import ConfigError, InputError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 1.0  # doubled each time: 15 seconds in all
SILENCE_SECONDS = 60
BLOCK_BYTES = 8 * 2**20
NO_DISK = (errno.ENOSPC, errno.EDQUOT)
LISTED = re.compile(rf"([0-9a-f]{{64}}) [ *]({URL})")


class RemoteFile(NamedTuple):
    """One pinned file behind a URL: a shard of its own, since only the whole of it has a known digest."""

    url: str
    sha256: str
    origin: Origin

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every row of the file, once all of it is here and is what was pinned."""
        yield from self._through(lambda part: part.read(source, scratch), scratch)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """The same, every row as it is."""
        yield from self._through(lambda part: part.rows(fields, scratch), scratch)

    def _through(self, read: "Callable[[Part], Iterator[T]]", scratch: Path | None) -> "Iterator[T]":
        with fetched(self.url, self.sha256, scratch) as file:
            try:
                for part in parts_of_file(file, self.origin, sys.maxsize):
                    yield from read(part)
            except InputError as error:
                raise InputError(f"{self.url}, as pinned: {error}") from error


def parts_of_remote(place: Remote | RemoteList) -> Iterator[RemoteFile]:
    """The files a place names; the network is not asked."""
    if isinstance(place, Remote):
        yield _remote_file(place, prefix="")
        return
    urls: set[str] = set()
    for number, line in enumerate(_read_list(place.checksums), 1):
        where = f"{place.checksums}:{number}"
        without_credentials(line)
        if (match := LISTED.fullmatch(line)) is None:
            raise InputError(
                f"{where}: expected '<sha256>  <url>' as `sha256sum` writes it, found {line[:200]!r}. Correct the line."
            )
        file = Remote(sha256=match[1], url=match[2])
        if file.url in urls:
            raise InputError(f"{where}: expected each file once, found {file.url} again. Remove the line.")
        urls.add(file.url)
        yield _remote_file(file, prefix=f"{file.url.partition('://')[2]}:")
    if not urls:
        raise InputError(f"{place.checksums}: expected at least one file, found none. Write '<sha256>  <url>' lines.")


@contextmanager
def fetched(url: str, sha256: str, scratch: Path | None) -> Iterator[Path]:
    """A copy of what is behind the URL, which is what was pinned; it is removed afterwards."""
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="remote-", dir=scratch) as folder:
        file = Path(folder, "file" + "".join(PurePosixPath(file_name(url)).suffixes[-2:]))
        found = _bring(url, file)
        if found != sha256:
            raise InputError(
                f"{url}: expected bytes with sha256 {sha256}, found {found}. They changed, or the pin is wrong: "
                "look at what is there now, and pin it if it is what you want."
            )
        yield file


def _bring(url: str, file: Path) -> str:
    """Copy what is behind the URL to `file` and return its SHA-256; a connection that breaks off is tried again."""
    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _copy(url, file)
        except ImportError as error:
            raise ConfigError(_missing(url, error)) from error
        except Exception as error:  # each protocol has its own family of errors
            if attempt == ATTEMPTS or not _may_pass(error):
                reason = _reason(error)
                raise InputError(
                    f"{url}: expected to read it, found in attempt {attempt} of {ATTEMPTS}: {type(reason).__name__}: "
                    f"{without_queries(reason)}. Check the URL, the network and the credentials in the environment."
                ) from None  # whose own words may hold a signed URL
        time.sleep(wait)
        wait *= 2
    raise AssertionError("the last attempt returns or raises")


def _copy(url: str, file: Path) -> str:
    import fsspec

    digest, received = hashlib.sha256(), 0
    system, path = fsspec.core.url_to_fs(url, **_options(url))
    with system.open(path, "rb", block_size=BLOCK_BYTES) as there, file.open("wb") as here:
        size = getattr(there, "size", None)
        while block := there.read(BLOCK_BYTES):
            digest.update(block)
            received += here.write(block)
    if size is not None and received < size:
        raise EOFError(f"it broke off after {received} of {size} bytes")
    return digest.hexdigest()


def _options(url: str) -> dict[str, Any]:
    """For plain HTTP a limit on silence: the library's own is five minutes for a whole file, however large."""
    if not url.startswith(("http://", "https://")):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    error = _reason(error)
    if isinstance(error, FileNotFoundError | PermissionError | ValueError | TypeError):
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in (408, 429)  # too slow, too often
    return not (isinstance(error, OSError) and error.errno in NO_DISK)


def _reason(error: Exception) -> Exception:
    """fsspec calls a web server that cannot be reached a file that is not found, and keeps the reason behind it."""
    cause = error.__cause__
    return _reason(cause) if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) else error


def _missing(url: str, error: ImportError) -> str:
    how = "pip install 'llm-lifecycle[s3]'" if url.startswith("s3://") else "pip install what it names"
    return f"{url}: expected the package that reads such URLs, found: {error}. To have it: {how}."


def _remote_file(place: Remote, *, prefix: str) -> RemoteFile:
    name = file_name(place.url)
    if format_of(name) is None:
        raise InputError(f"{place.url}: expected a name in {FORMATS}, found {name!r}. Name a file in one of them.")
    return RemoteFile(place.url, place.sha256, Origin(name, prefix))


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a list of files, found: {error}. Check the path in the recipe.") from error
