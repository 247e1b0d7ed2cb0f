"""Single files of a sealed artifact: only what is shown is read and verified, as the text itself may be terabytes."""

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.sealing import Artifact, read_manifest

A = TypeVar("A", bound=Artifact)
M = TypeVar("M", bound=BaseModel)


def opened(kind: type[A], folder: Path) -> A:
    """The artifact of a folder, its files unread."""
    manifest = read_manifest(folder)
    if manifest.kind != kind.__name__:
        raise InputError(f"{folder}: expected a {kind.__name__}, found a {manifest.kind}. Name another run or folder.")
    return kind(path=folder, **manifest.facts)


def told(kind: type[M], artifact: Artifact, name: str) -> M:
    """What a stage wrote down in a file of its artifact."""
    try:
        return kind.model_validate_json(sealed_bytes(artifact, name))
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(
            f"{artifact.path}: expected a {name} as this code writes it, found another one "
            f"({'.'.join(map(str, fault['loc']))}: {fault['msg']}). Rerun the stage to get a card."
        ) from error


def sealed_bytes(artifact: Artifact, name: str) -> bytes:
    """A file of an artifact, verified as it is read: nothing is shown that was changed after it was sealed."""
    entry = {**artifact.manifest.files, **artifact.manifest.log}.get(name)
    content = (artifact.path / name).read_bytes() if entry else b""
    if entry is None or hashlib.sha256(content).hexdigest() != entry.sha256:
        found = "none" if entry is None else "other bytes than were sealed"
        raise DamagedArtifact(f"{artifact.path}: expected the sealed file {name}, found {found}. Rerun the stage.")
    return content
