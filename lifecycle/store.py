"""Where artifacts live, and the one way a stage is run: find it sealed, or make it under a lock.

<store>/artifacts/<stage>/<identity>-<source>/   sealed artifacts; no manifest, no artifact
<store>/quarantine/                              what failed verification, kept for the autopsy
<store>/runs/  ledger.jsonl  locks/              see `runs` and `ledger`
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_type_hints

from lifecycle import sealing
from lifecycle.artifacts import KINDS
from lifecycle.errors import DamagedArtifact, StaleArtifact, StoreError
from lifecycle.sealing import Artifact, StageConfig
from lifecycle.source import source_closure

A = TypeVar("A", bound=Artifact)
OnDrift = Literal["stop", "rebuild", "accept"]

# A stage cheaper than this is rebuilt when its code changed; a dearer one stops and asks. 30 s is about what a person
# waits without going for coffee; on the tiny recipe it separates data and gate (1-10 s) from training (25-90 s).
CHEAP_SECONDS = 30.0


@dataclass(frozen=True)
class Made(Generic[A]):
    """An artifact and how it was come by."""

    artifact: A
    reused: bool
    seconds: float
    notes: list[str] = field(default_factory=list)


class Store:
    """A directory of artifacts. Safe for many processes: every stage identity is made by one of them, once."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        try:
            for name in ("artifacts", "runs", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(f"{self.root} is not writable")
        except OSError as error:
            raise StoreError(
                f"expected a writable artifact store at {self.root}, found: {error}. Use --store."
            ) from error

    def make(
        self, stage: Callable[..., A], config: StageConfig, *inputs: Artifact | None, on_drift: OnDrift = "stop"
    ) -> Made[A]:
        """The artifact `stage(config, *inputs)` describes: reused when it is sealed, else made now.

        None stands in the place of an input that this use of the stage goes without.
        A second process that wants the same identity waits for the first and then reuses its work.
        Raises StaleArtifact when a dear artifact exists but the code that made it has changed since.
        """
        kind: type[A] = get_type_hints(stage)["return"]
        identity = sealing.fingerprint(config, [given for given in inputs if given is not None])
        source = source_closure(stage)
        folder = self.root / "artifacts" / config.stage
        own = folder / f"{identity[:16]}-{sealing.short_digest(source)}"
        notes: list[str] = []
        with self.lock(f"{config.stage}-{identity[:16]}"):
            for path in [own, *sorted(set(folder.glob(f"{identity[:16]}-*")) - {own})]:
                if not (path / sealing.MANIFEST).exists():
                    continue
                drift = _drift(sealing.read_manifest(path).source, source)
                if drift and not self._may_reuse(path, drift, on_drift, notes):
                    continue
                try:
                    artifact = kind.load(path)
                    if artifact.fingerprint != identity:
                        raise DamagedArtifact(f"{path}: sealed for another identity. It was moved here by hand.")
                except DamagedArtifact as error:
                    notes.append(f"{error} Quarantined in {self._quarantine(path)} and made again.")
                    continue
                except StaleArtifact as error:
                    if on_drift != "rebuild" and sealing.read_manifest(path).seconds >= CHEAP_SECONDS:
                        raise
                    notes.append(f"{error} Set aside in {self._quarantine(path)} and made again.")
                    continue
                return Made(artifact, reused=True, seconds=0.0, notes=notes)
            started = time.monotonic()
            sealing.begin(own, source)
            artifact = stage(config, *inputs, out_dir=own)
            if artifact.fingerprint != identity:
                raise DamagedArtifact(
                    f"{config.stage}: an input or raw file changed while the stage ran (identity {identity[:12]} "
                    f"before, {artifact.fingerprint[:12]} after; what it made is in {self._quarantine(own)}). "
                    "Run it again on settled files."
                )
            return Made(artifact, reused=False, seconds=time.monotonic() - started, notes=notes)

    def load(self, path: Path) -> Artifact:
        """The artifact sealed at `path`, of whatever kind its manifest says, verified."""
        kind = sealing.read_manifest(path).kind
        if kind not in KINDS:
            raise DamagedArtifact(f"{path}: unknown kind {kind!r}; known kinds are {sorted(KINDS)}.")
        return KINDS[kind].load(path)

    def find(self, digest: str) -> Artifact:
        """The artifact with this content digest, verified; a damaged one elsewhere in the store is not in the way."""
        fault = f"no artifact with digest {digest[:12]} in {self.root}. It was removed or never made."
        for path in sorted((self.root / "artifacts").glob("*/*/" + sealing.MANIFEST)):
            try:
                if sealing.read_manifest(path.parent).digest == digest:
                    return self.load(path.parent)
            except DamagedArtifact as error:
                # Perhaps the one we look for, perhaps not: code drift makes equal artifacts stand side by side.
                fault = f"{fault} {error}"
        raise DamagedArtifact(fault)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock; the kernel frees it when the holder dies, however it dies."""
        with (self.root / "locks" / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _may_reuse(self, path: Path, drift: list[str], on_drift: OnDrift, notes: list[str]) -> bool:
        seconds = sealing.read_manifest(path).seconds
        changed = ", ".join(drift)
        if on_drift == "accept":
            notes.append(f"reused although the code changed since: {changed}")
            return True
        if on_drift == "rebuild" or seconds < CHEAP_SECONDS:
            notes.append(f"made again: the code changed since ({changed})")
            return False
        stage = path.parent.name
        raise StaleArtifact(
            f"{stage} is sealed and took {seconds:.0f} s, but its code changed since: {changed}. "
            f"Make it again with --rebuild {stage}, or keep it with --accept-drift {stage} (recorded in the run)."
        )

    def _quarantine(self, path: Path) -> Path:
        target = self.root / "quarantine" / f"{path.parent.name}-{path.name}-{time.time_ns()}"
        target.parent.mkdir(exist_ok=True)
        return path.rename(target)


def ancestors(artifact: Artifact) -> list[sealing.Manifest]:
    """Manifests of all an artifact was made from, each after its own inputs, as far as they lie in the same store."""
    shelf, found = artifact.path.parent.parent, dict[str, sealing.Manifest]()

    def visit(entry: sealing.InputEntry) -> None:
        if entry.digest in found:
            return
        for path in sorted(shelf.glob(f"*/{entry.fingerprint[:16]}-*/{sealing.MANIFEST}")):
            manifest = sealing.read_manifest(path.parent)
            if (manifest.fingerprint, manifest.digest) == (entry.fingerprint, entry.digest):
                for before in manifest.inputs:
                    visit(before)
                found[entry.digest] = manifest
                return

    for entry in artifact.manifest.inputs:
        visit(entry)
    return list(found.values())


def _drift(then: Mapping[str, str], now: Mapping[str, Any]) -> list[str]:
    """Names of source files that were added, removed or changed."""
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
