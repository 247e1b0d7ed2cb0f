"""Where a mirror keeps its objects: a bucket behind s3://, or a folder of a shared file system.

Both write an object whole or not at all, and never over another one: S3 by `If-None-Match: *`, a folder by a hard link,
which fails where the name is taken.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import uuid4

from lifecycle.errors import ConfigError, StoreError

S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.()/-]*)?")
BLOCK_BYTES = 16 * 2**20


class Shelf(Protocol):
    """Objects by name."""

    place: str

    def size(self, name: str) -> int | None:
        """Bytes of an object; None when there is none."""
        ...

    def put(self, name: str, file: Path) -> bool:
        """Put a file there; False when something is there already, which stays as it is."""
        ...

    def read(self, name: str, *, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `start` on, in blocks. FileNotFoundError when there is none."""
        ...

    def names(self, below: str) -> list[str]:
        """The names of all objects below a prefix."""
        ...


def shelf_at(place: str) -> Shelf:
    """What `place` names: s3://bucket/prefix, or a folder."""
    if "://" not in place:
        return Folder(Path(place).expanduser().absolute())
    if not S3.fullmatch(place):
        raise ConfigError(
            f"expected s3://bucket/prefix or a folder, found {place.partition('@')[2] or place!r}. Credentials and the "
            "endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on, or ~/.aws."
        )
    return Bucket(place.rstrip("/"))


class Folder:
    """Objects as files. What the file system must keep: rename and link are atomic (NFSv4, Lustre, CephFS do)."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, str(root)

    def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, name: str, file: Path) -> bool:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.parent / f".{target.name}.{uuid4().hex}"
        try:
            with file.open("rb") as here, unfinished.open("xb") as there:
                while block := here.read(BLOCK_BYTES):
                    there.write(block)
                there.flush()
                os.fsync(there.fileno())
            os.link(unfinished, target)
        except FileExistsError:
            return False
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        return True

    def read(self, name: str, *, start: int = 0) -> Iterator[bytes]:
        with (self.root / name).open("rb") as file:
            yield from _blocks(file, start)

    def names(self, below: str) -> list[str]:
        files = (file for file in (self.root / below).rglob("*") if file.is_file() and not file.name.startswith("."))
        return sorted(file.relative_to(self.root).as_posix() for file in files)


class Bucket:
    """Objects behind s3://, through s3fs; its library tries again what a network may mend."""

    def __init__(self, place: str) -> None:
        self.place = place
        try:
            import s3fs
        except ImportError as error:
            raise ConfigError(
                f"{place}: expected the package that speaks S3, found: {error}. To have it: pip install "
                "'llm-lifecycle[s3]'."
            ) from error
        # Without its cache of listings: others write here too.
        self.system: Any = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def size(self, name: str) -> int | None:
        with self._asked(name):
            try:
                return int(self.system.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def put(self, name: str, file: Path) -> bool:
        with self._asked(name):
            try:
                self.system.put_file(str(file), self._path(name), mode="create")  # sends If-None-Match: *
            except FileExistsError:
                return False
            except FileNotFoundError as error:
                raise StoreError(f"{self.place}: expected a bucket that is there, found {error}. Make it.") from error
            except OSError as error:
                # Not every version of s3fs has a word for the answer 412, and 409 is another one who is at it.
                if _status(error) == 412 or (_status(error) == 409 and self.size(name) is not None):
                    return False
                raise
        return True

    def read(self, name: str, *, start: int = 0) -> Iterator[bytes]:
        with self._asked(name), self.system.open(self._path(name), "rb", block_size=BLOCK_BYTES) as file:
            yield from _blocks(file, start)

    def names(self, below: str) -> list[str]:
        with self._asked(below):
            prefix = self.place.removeprefix("s3://") + "/"
            return sorted(str(path).removeprefix(prefix) for path in self.system.find(self._path(below)))

    def _path(self, name: str) -> str:
        return f"{self.place}/{name}"

    @contextmanager
    def _asked(self, name: str) -> Iterator[None]:
        """Whatever the network or the service says, as one of our errors."""
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:  # botocore has a family of its own
            raise StoreError(
                f"{self._path(name)}: expected the bucket to answer, found {type(error).__name__}: {error}. Check the "
                "address, the network and the credentials in the environment."
            ) from error


def _blocks(file: IO[bytes], start: int) -> Iterator[bytes]:
    file.seek(start)
    while block := file.read(BLOCK_BYTES):
        yield block


def _status(error: BaseException | None) -> int:
    """The HTTP status behind an error, 0 when there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        error = error.__cause__
    return 0
