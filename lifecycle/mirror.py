"""Sealed artifacts in a second place, and back: for other machines, other sites, and the day the first disk dies.

    <place>/blobs/<sha256>                     the bytes of a file, by their digest: equal files are there once
    <place>/artifacts/<stage>/<folder>.json    its manifest, written last: without it there is no artifact

Objects are written where nothing is, and never again, so two who publish at once end with one artifact. What was
uploaded before a push was killed is not sent again. Nothing that is fetched is believed: names are checked before a
byte is written, each file against its digest, then the whole, and only then it gets its name in the store.

Who may write there can offer an artifact that he made up: digests say that it is whole, not who made it. `only` names
digests one knows from elsewhere. The ledger is not mirrored: what is live is decided in one place.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from lifecycle import sealing
from lifecycle.errors import DamagedArtifact, StoreError
from lifecycle.sealing import FileEntry, Manifest
from lifecycle.shelves import Shelf
from lifecycle.store import Store

AT_ONCE = 8
"""Files that travel together: one stream fills no network."""
LARGEST_MANIFEST = 64 * 2**20
NAME = re.compile(r"artifacts/([a-z][a-z0-9_]{0,63})/([0-9a-f]{16}-[0-9a-f]{8})\.json")
DIGEST = re.compile(r"[0-9a-f]{64}")

Tell = Callable[[str], None]


class Same(NamedTuple):
    """Files of one artifact with the same bytes: they travel once."""

    entry: FileEntry
    names: list[str]


@dataclass
class Moved:
    """What a push or pull did."""

    moved: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    bytes: int = 0
    others: list[str] = field(default_factory=list)
    """Of the same identity, but with other bytes: training on GPUs is equal up to rounding. They stay as they are."""


def push(store: Store, shelf: Shelf, *, stages: Collection[str] = (), tell: Tell = lambda line: None) -> Moved:
    """Publish every sealed artifact of a store, each verified first: nothing damaged spreads."""
    done = Moved()
    for file in sorted((store.root / "artifacts").glob(f"*/*/{sealing.MANIFEST}")):
        path = file.parent
        stage, name = path.parent.name, f"artifacts/{path.parent.name}/{path.name}.json"
        if (stages and stage not in stages) or not NAME.fullmatch(name):
            continue
        manifest = sealing.read_manifest(path)
        if shelf.size(name) is None:
            sealing.verify(path)
            sent = _together(partial(_send, shelf, path), _by_digest(_files(manifest)))
            if shelf.put(name, file):
                done.moved.append(name)
                done.bytes += sent
                tell(f"{stage} {path.name}: {sent:,} bytes sent")
                continue
        there = _fetch_manifest(shelf, name)
        (done.present if there.digest == manifest.digest else done.others).append(name)
    return done


def pull(
    store: Store,
    shelf: Shelf,
    *,
    stages: Collection[str] = (),
    only: Collection[str] = (),
    tell: Tell = lambda line: None,
) -> Moved:
    """Bring every published artifact that this store does not have; of `only` these digests, and all of them."""
    done, found = Moved(), set[str]()
    for name in shelf.names("artifacts"):
        match = NAME.fullmatch(name)
        if match is None or (stages and match[1] not in stages):
            continue
        manifest = _fetch_manifest(shelf, name)
        if only and manifest.digest not in only:
            continue
        found.add(manifest.digest)
        path = store.root / "artifacts" / match[1] / match[2]
        with store.lock(f"{match[1]}-{match[2][:16]}"):  # the one its stage is made under
            if (path / sealing.MANIFEST).exists():
                same = sealing.read_manifest(path).digest == manifest.digest
                (done.present if same else done.others).append(name)
                continue
            done.bytes += _bring(shelf, name, manifest, path)
        done.moved.append(name)
        tell(f"{match[1]} {match[2]}: {sum(entry.bytes for entry in _files(manifest).values()):,} bytes, verified")
    if missing := sorted(set(only) - found):
        raise StoreError(f"expected artifact {missing[0]} in {shelf.place}, found none of that digest. Was it pushed?")
    return done


def _send(shelf: Shelf, path: Path, same: Same) -> int:
    """Bytes sent: none for a file that is there already."""
    entry, name, blob = same.entry, same.names[0], _blob(same.entry)
    there = shelf.size(blob)
    if there is None:
        if shelf.put(blob, path / name):
            return entry.bytes
        there = shelf.size(blob)
    if there != entry.bytes:
        raise DamagedArtifact(
            f"{shelf.place}/{blob}: expected the {entry.bytes} bytes of {name}, found {there}. It was cut short or "
            "written over: remove that object and push again."
        )
    return 0


def _fetch_manifest(shelf: Shelf, name: str) -> Manifest:
    """A manifest from outside: of the stage and identity that its name says, with names that stay in their folder."""
    size = shelf.size(name) or 0
    if size > LARGEST_MANIFEST:
        raise DamagedArtifact(f"{shelf.place}/{name}: expected a manifest, found {size:,} bytes. It is none.")
    try:
        manifest = Manifest.model_validate_json(b"".join(shelf.read(name)))
    except (ValidationError, FileNotFoundError) as error:
        found = str(error)[:300]
        raise DamagedArtifact(f"{shelf.place}/{name}: expected a manifest, found: {found}. Push again.") from error
    match = NAME.fullmatch(name)
    assert match is not None
    if (manifest.stage, manifest.fingerprint[:16]) != (match[1], match[2][:16]):
        raise DamagedArtifact(
            f"{shelf.place}/{name}: expected the manifest of this name, found one of {manifest.stage} "
            f"{manifest.fingerprint[:16]}. Somebody moved or forged it."
        )
    for file, entry in _files(manifest).items():
        inside = PurePosixPath(file)
        odd = inside.is_absolute() or inside.as_posix() != file or ".." in inside.parts
        if odd or file == sealing.MANIFEST or not DIGEST.fullmatch(entry.sha256) or entry.bytes < 0:
            raise DamagedArtifact(f"{shelf.place}/{name}: expected names inside the artifact, found {file!r}. Forged.")
    return manifest


def _bring(shelf: Shelf, name: str, manifest: Manifest, path: Path) -> int:
    """Fetch an artifact beside its place, verify all of it, and give it its name; what was fetched before is kept."""
    if path.exists():  # no stage is at work on it: we hold its lock
        raise StoreError(
            f"expected nothing at {path}, found an attempt that did not end. Finish it with the command that began it, "
            "or remove the folder."
        )
    coming = path.parent / f".coming-{path.name}"
    coming.mkdir(parents=True, exist_ok=True)
    missing = {file: entry for file, entry in _files(manifest).items() if not _is_here(coming / file, entry)}
    _must_have_room(coming, missing.values())
    for file in set(sealing.files_below(coming)) - set(_files(manifest)) - {_part(entry) for entry in missing.values()}:
        (coming / file).unlink()
    fetched = _together(partial(_receive, shelf, coming), _by_digest(missing))
    (coming / sealing.MANIFEST).unlink(missing_ok=True)
    for part in coming.glob(".*.part"):
        part.unlink()
    sealing.write_atomically(coming / sealing.MANIFEST, b"".join(shelf.read(name)))
    if sealing.verify(coming) != manifest:
        raise DamagedArtifact(f"{shelf.place}/{name}: it changed while it was fetched. Pull again.")
    _sync_folders(coming)
    coming.rename(path)
    _sync_folders(path.parent, deep=False)
    return fetched


def _receive(shelf: Shelf, coming: Path, same: Same) -> int:
    """Fetch one file, from where an earlier attempt was cut off; it gets its names when its digest is right."""
    entry, name = same.entry, same.names[0]
    part, blob = coming / _part(entry), _blob(entry)
    begun = part.stat().st_size if part.exists() else 0
    found, size = _append(shelf, blob, part, begun if begun < entry.bytes else 0, entry.bytes)
    if found != entry.sha256 and begun:  # perhaps our own beginning was wrong
        found, size = _append(shelf, blob, part, 0, entry.bytes)
    if found != entry.sha256:
        part.unlink()
        raise DamagedArtifact(
            f"{shelf.place}/{blob}: expected the {entry.bytes} bytes of {name}, sha256 {entry.sha256[:12]}; found "
            f"{size} bytes, sha256 {found[:12]}. The object is cut short or changed: remove it, and push again from a "
            "store that has the artifact."
        )
    for each in same.names:
        (coming / each).parent.mkdir(parents=True, exist_ok=True)
        if each != name:
            shutil.copyfile(part, coming / each)
    part.rename(coming / name)
    return entry.bytes - begun


def _append(shelf: Shelf, blob: str, part: Path, start: int, most: int) -> tuple[str, int]:
    """Continue a part at `start`; the digest and size of all of it. Reads no more than `most` and one block."""
    digest = hashlib.sha256()
    with part.open("r+b" if start else "wb") as file:
        while start and (block := file.read(min(2**20, start - file.tell()))):
            digest.update(block)
        try:
            for block in shelf.read(blob, start=start):
                digest.update(block)
                file.write(block)
                if file.tell() > most:
                    break
        except FileNotFoundError:
            raise DamagedArtifact(f"{shelf.place}/{blob}: expected this object, found none. Push it again.") from None
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
        return digest.hexdigest(), file.tell()


def _files(manifest: Manifest) -> dict[str, FileEntry]:
    return {**manifest.files, **manifest.log}


def _blob(entry: FileEntry) -> str:
    return f"blobs/{entry.sha256}"


def _part(entry: FileEntry) -> str:
    return f".{entry.sha256}.part"


def _is_here(file: Path, entry: FileEntry) -> bool:
    return file.is_file() and file.stat().st_size == entry.bytes and sealing.sha256_file(file) == entry.sha256


def _must_have_room(folder: Path, entries: Iterable[FileEntry]) -> None:
    needed, free = sum(entry.bytes for entry in entries), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(f"expected {needed:,} bytes free in {folder}, found {free:,}. Make room and pull again.")


def _by_digest(files: Mapping[str, FileEntry]) -> list[Same]:
    names: dict[str, list[str]] = {}
    for name, entry in files.items():
        names.setdefault(entry.sha256, []).append(name)
    return [Same(files[same[0]], same) for same in names.values()]


def _together(work: Callable[[Same], int], files: Sequence[Same]) -> int:
    """The sum of what a few at a time return."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(threads.map(work, files))


def _sync_folders(root: Path, *, deep: bool = True) -> None:
    """Make names durable; the bytes of files are, since each was written."""
    for folder, _, _ in os.walk(root) if deep else [(str(root), [], [])]:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
