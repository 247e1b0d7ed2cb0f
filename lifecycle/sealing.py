"""How a directory becomes an immutable artifact: identity, digests, manifest, verification.

Identity says what an artifact was made *from* (config, raw bytes, inputs, revision); its digest says what it *is*.
Downstream identity uses the digest, so a rebuild that gives the same bytes invalidates nothing below it.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lifecycle.errors import ConfigError, DamagedArtifact, InputError, StaleArtifact

MANIFEST = "manifest.json"
LOG_FOLDER = "log"  # how it ran: digested for integrity, but not part of what the artifact is
SCRATCH_FOLDER = "scratch"  # what a killed stage resumes from: removed when the artifact is sealed


def how_it_ran(default: Any, **field: Any) -> Any:
    """A config field that changes where or how fast a stage runs but not what it makes; it stays out of identity."""
    return Field(default, json_schema_extra={"identity": False}, **field)


def later_field(default: Any, **field: Any) -> Any:
    """A field younger than artifacts that exist: at its default, which changes nothing, it has no identity."""
    return Field(default, json_schema_extra={"identity": "unless default"}, **field)


class StageConfig(BaseModel):
    """Base of every stage's configuration. `revision` is raised when the stage's code changes what it produces."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: ClassVar[str]
    revision: ClassVar[int] = 1


class FileEntry(BaseModel):
    """One file of an artifact: size in bytes and the SHA-256 of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str


class InputEntry(BaseModel):
    """One input artifact: what it was made from and what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    fingerprint: str
    digest: str


class Manifest(BaseModel):
    """What `manifest.json` holds. Written last, by rename: a directory without it does not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    kind: str
    stage: str
    revision: int
    fingerprint: str
    digest: str
    config: dict[str, Any]
    inputs: list[InputEntry]
    facts: dict[str, Any]
    files: dict[str, FileEntry]
    log: dict[str, FileEntry]
    source: dict[str, str] = Field(description="Digest of every source file the stage's code is made of.")
    seconds: float = Field(description="Wall time of the attempt that finished.")


class Artifact(BaseModel):
    """A sealed directory and the facts a later stage may rely on. Subclasses add facts as fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 over the kind, the facts and the bytes of every file outside `log/`."""
        return self.manifest.digest

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def facts(self) -> dict[str, Any]:
        """Every field but the path, as plain JSON values. A `later_field` at its default is no fact yet."""
        fields = type(self).model_fields
        unsaid = {name for name, field in fields.items() if not _in_identity(field, getattr(self, name))}
        return self.model_dump(mode="json", exclude={"path", *unsaid})

    def seal(self, config: StageConfig, *inputs: "Artifact") -> Self:
        """Make every byte durable, then write the manifest: after this the directory exists, and never changes."""
        from_scratch = self.path / SCRATCH_FOLDER
        shutil.rmtree(from_scratch, ignore_errors=True)
        entries = {name: _entry(self.path / name) for name in sorted(files_below(self.path)) if name != MANIFEST}
        content = {name: entry for name, entry in entries.items() if not _is_log(name)}
        manifest = Manifest(
            kind=type(self).__name__,
            stage=config.stage,
            revision=config.revision,
            fingerprint=fingerprint(config, inputs),
            digest=_content_digest(type(self).__name__, self.facts(), content),
            config=canonical(config, names=True),
            inputs=[InputEntry(kind=type(i).__name__, fingerprint=i.fingerprint, digest=i.digest) for i in inputs],
            facts=self.facts(),
            files=content,
            log={name: entry for name, entry in entries.items() if _is_log(name)},
            source=_read_attempt(self.path)["source"],
            seconds=round(time.time() - _read_attempt(self.path)["started"], 3),
        )
        _fsync_tree(self.path)
        write_atomically(self.path / MANIFEST, manifest.model_dump_json(indent=1).encode())
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """The artifact sealed at `path`, every file checked against its digest."""
        manifest = verify(path)
        if manifest.kind != cls.__name__:
            raise DamagedArtifact(f"{path}: expected a {cls.__name__}, found a {manifest.kind}. Check the path.")
        try:
            return cls(path=path, **manifest.facts)
        except ValidationError as error:
            odd = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in error.errors()[:3])
            raise StaleArtifact(
                f"{path}: expected a {cls.__name__} as this version makes it, found one of another version ({odd}). "
                f"Make it again with --rebuild {manifest.stage}, or read it with the version that made it."
            ) from error


def fingerprint(config: StageConfig, inputs: Sequence[Artifact]) -> str:
    """Identity of what a stage makes: its name, revision, config (with the bytes of raw files) and input digests."""
    identity = {
        "stage": config.stage,
        "revision": config.revision,
        "config": canonical(config),
        "inputs": [[type(artifact).__name__, artifact.digest] for artifact in inputs],
    }
    return _sha256_json(identity)


def canonical(value: Any, *, names: bool = False) -> Any:
    """`value` as JSON data with one spelling. A `Path` is a raw file: its bytes count, its name only if `names`.

    What has no canonical form is refused, never `repr`-ed: two spellings of one thing would be two identities.
    """
    match value:
        case Enum():
            return canonical(value.value, names=names)
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ConfigError(f"a configuration number must be finite, found {value!r}. Use None for 'no limit'.")
            return value
        case BaseModel():
            fields = type(value).model_fields
            kept = [name for name, field in fields.items() if _in_identity(field, getattr(value, name))]
            return {name: canonical(getattr(value, name), names=names) for name in kept}
        case Path():
            digest = f"sha256:{raw_file_digest(value)}"
            return f"{value.name}@{digest}" if names else digest
        case Mapping():
            return {str(key): canonical(value[key], names=names) for key in sorted(value)}
        case tuple() | list():
            return [canonical(item, names=names) for item in value]
    raise ConfigError(f"{type(value).__name__} {value!r} has no canonical form. Use plain data or a pydantic model.")


def raw_file_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of every file of a folder."""
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        try:
            return _sha256_json({name: sha256_file(path / name) for name in sorted(files_below(path))})
        except DamagedArtifact as error:  # it is no artifact
            raise InputError(str(error)) from error
    raise InputError(f"expected a file or folder at {path}, found nothing. Check the path in the recipe or in --set.")


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`, unverified; DamagedArtifact when there is none or it cannot be parsed."""
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedArtifact(f"{path}: no readable {MANIFEST} ({error}). The artifact does not exist.") from error


def verify(path: Path) -> Manifest:
    """The manifest at `path` after checking every byte it vouches for, and that nothing was added."""
    manifest = read_manifest(path)
    listed = {**manifest.files, **manifest.log}
    present = set(files_below(path)) - {MANIFEST}
    if present != set(listed):
        odd = sorted(present ^ set(listed))[:5]
        raise DamagedArtifact(f"{path}: files differ from the manifest, starting with {odd}. Rerun the stage.")
    for name, entry in listed.items():
        found = _entry(path / name)
        if found != entry:
            raise DamagedArtifact(
                f"{path / name}: expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}; found {found.bytes} bytes, "
                f"sha256 {found.sha256[:12]}. The file changed after sealing; rerun the stage."
            )
    digest = _content_digest(manifest.kind, manifest.facts, manifest.files)
    if digest != manifest.digest:
        raise DamagedArtifact(f"{path}: the manifest's facts do not match its digest. It was edited; rerun the stage.")
    return manifest


def begin(out_dir: Path, source: Mapping[str, str]) -> None:
    """Prepare `out_dir` for an attempt: keep what a killed attempt can resume from, remove the rest."""
    out_dir.mkdir(parents=True, exist_ok=True)
    for child in out_dir.iterdir():
        if child.name in (SCRATCH_FOLDER, LOG_FOLDER):
            continue
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    log = out_dir / LOG_FOLDER
    log.mkdir(exist_ok=True)
    attempt = {"started": time.time(), "source": dict(source)}
    write_atomically(log / "attempt.json", json.dumps(attempt, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: after a crash at any moment it holds the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # two containers may have equal process ids
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _fsync(path.parent)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_digest(value: Any) -> str:
    """Eight hex digits that tell two JSON values apart, for names of folders."""
    return _sha256_json(value)[:8]


def _content_digest(kind: str, facts: Mapping[str, Any], files: Mapping[str, FileEntry]) -> str:
    return _sha256_json({"kind": kind, "facts": facts, "files": {n: e.model_dump() for n, e in sorted(files.items())}})


def _in_identity(field: FieldInfo, value: Any) -> bool:
    rule = field.json_schema_extra.get("identity") if isinstance(field.json_schema_extra, dict) else None
    return rule is not False and not (rule == "unless default" and value == field.default)


def _read_attempt(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / LOG_FOLDER / "attempt.json").read_bytes()))
    except FileNotFoundError:  # a stage called by hand, outside a store
        return {"started": time.time(), "source": {}}


def _sha256_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry(path: Path) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path))


def _is_log(name: str) -> bool:
    return PurePosixPath(name).parts[0] == LOG_FOLDER


def files_below(root: Path) -> Iterator[str]:
    """Relative names of all files below `root`. A link is refused: what it points to could change unseen."""
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        for name in (*folders, *names):
            if Path(folder, name).is_symlink():
                raise DamagedArtifact(f"{Path(folder, name)}: expected no link, found one. Copy what it points to.")
        for name in names:
            yield Path(folder, name).relative_to(root).as_posix()


def _unreadable(error: OSError) -> None:
    raise DamagedArtifact(f"expected readable folders, found: {error}. Check its permissions.") from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            _fsync(Path(folder, name))
        _fsync(Path(folder))
    _fsync(root.parent)
