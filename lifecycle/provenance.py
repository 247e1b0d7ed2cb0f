"""Candidate, report, decision, release: the chain a champion stands on, every byte of it verified (promise P4).

Manifests are read, not today's classes: what an earlier version sealed can still be proven, and one can go back to it.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lifecycle import sealing
from lifecycle.errors import DamagedArtifact, PromotionBlocked
from lifecycle.sealing import Manifest
from lifecycle.store import Store

MODEL = "model"
"""The folder of a release that users load."""
EVIDENCE = ("EvalReport", "GateDecision")


@dataclass(frozen=True)
class Provenance:
    """What a release was made from. It exists only when all of it was verified."""

    checkpoint: Manifest
    report: Manifest
    decision: Manifest
    release: Manifest

    @property
    def against(self) -> str | None:
        """Digest of the checkpoint the decision compared with; None for a first release."""
        against = self.decision.facts["against"]
        return None if against is None else str(against)

    @property
    def needs_approval(self) -> bool:
        """Whether its policy asks for a person. Sealed with the decision: nobody can take it back afterwards."""
        return self.decision.config.get("approval") == "required"

    @property
    def policy(self) -> str:
        """SHA-256 of the rules the decision was made by."""
        rules = {"stage": self.decision.stage, "config": self.decision.config}
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def proven(store: Store, release: Path) -> Provenance:
    """What the release at `release` stands on.

    Raises DamagedArtifact when a file of the chain is gone or changed, and PromotionBlocked when its parts do not
    belong together or the decision does not say PROMOTE for exactly this checkpoint.
    """
    released = _verified(release, "Release")
    sealed = _sealed(store, "*")
    checkpoint = _part(sealed, released, "checkpoint", "Checkpoint")
    report = _part(sealed, released, "report", "EvalReport")
    decision = _part(sealed, released, "decision", "GateDecision")
    if not _says_promote(decision) or decision.facts["checkpoint_digest"] != checkpoint.digest:
        raise PromotionBlocked(
            f"expected a PROMOTE decision for checkpoint {checkpoint.digest[:12]}, found {decision.facts['verdict']} "
            f"for {decision.facts['checkpoint_digest'][:12]}. Gate this checkpoint first."
        )
    for what, part, whole in (("checkpoint", checkpoint, report), ("report", report, decision)):
        if whole.facts[f"{what}_digest"] != part.digest:
            raise PromotionBlocked(
                f"expected {whole.kind} {whole.digest[:12]} to be about {what} {part.digest[:12]}, found it about "
                f"{whole.facts[f'{what}_digest'][:12]}. Nothing is promoted on another checkpoint's record."
            )
        _made_from(whole, part)
    for part in (checkpoint, decision, report):
        _made_from(released, part)
    _same_weights(released, checkpoint)
    _evidence_is_whole(sealed, decision)
    return Provenance(checkpoint, report, decision, released)


def folder_of(store: Store, digest: str) -> Path:
    """Where the release with this digest lies; DamagedArtifact when its files are gone."""
    for folder, known in releases(store).items():
        if known == digest:
            return folder
    raise DamagedArtifact(f"expected the files of release {digest[:12]} in {store.root}, found none. Restore them.")


def releases(store: Store) -> dict[Path, str]:
    """Folder and digest of every sealed release; one whose manifest cannot be read is not in the way of the others."""
    return {folder: manifest.digest for folder, manifest in _sealed(store, "release").items()}


def _sealed(store: Store, stage: str) -> dict[Path, Manifest]:
    found: dict[Path, Manifest] = {}
    for path in sorted((store.root / "artifacts").glob(f"{stage}/*/{sealing.MANIFEST}")):
        with suppress(DamagedArtifact):
            found[path.parent] = sealing.read_manifest(path.parent)
    return found


def _part(sealed: Mapping[Path, Manifest], release: Manifest, what: str, kind: str) -> Manifest:
    """The artifact that the release names, wherever in the store it lies."""
    return _whole(sealed, release.facts[f"{what}_digest"], kind, f"release {release.digest[:12]} stands on its {what}")


def _evidence_is_whole(sealed: Mapping[Path, Manifest], decision: Manifest) -> None:
    """The reports the decision compared, also the live one's, and the decisions and reports of earlier looks."""
    open_entries, seen = [(decision, entry) for entry in decision.inputs], set[str]()
    while open_entries:
        by, entry = open_entries.pop()
        if entry.kind in EVIDENCE and entry.digest not in seen:
            seen.add(entry.digest)
            found = _whole(sealed, entry.digest, entry.kind, f"{by.kind} {by.digest[:12]} was made from")
            open_entries += [(found, before) for before in found.inputs]


def _whole(sealed: Mapping[Path, Manifest], digest: str, kind: str, why: str) -> Manifest:
    """The artifact with this digest, verified."""
    damaged = "It was removed or never made."
    for folder, manifest in sealed.items():
        if manifest.digest == digest:
            try:
                return _verified(folder, kind)
            except DamagedArtifact as error:  # code drift makes equal artifacts stand side by side: try the next
                damaged = str(error)
    raise DamagedArtifact(
        f"{why} {digest[:12]}: expected a {kind} with this digest in the store, found none that is whole. {damaged}"
    )


def _verified(folder: Path, kind: str) -> Manifest:
    manifest = sealing.verify(folder)
    if manifest.kind != kind:
        raise DamagedArtifact(f"{folder}: expected a {kind}, found a {manifest.kind}. Check the path.")
    return manifest


def _says_promote(decision: Manifest) -> bool:
    """The verdict, held against its checks: a decision without any, or with one open, promotes nothing."""
    required = {check["verdict"] for check in decision.facts["checks"] if check.get("required", True)}
    return decision.facts["verdict"] == "PROMOTE" and required == {"PASS"}


def _made_from(whole: Manifest, part: Manifest) -> None:
    """A part that was not handed in when the artifact was made was put beside it afterwards."""
    if part.digest not in {entry.digest for entry in whole.inputs}:
        raise PromotionBlocked(
            f"expected {whole.kind} {whole.digest[:12]} to be made from {part.kind} {part.digest[:12]}, found other "
            "inputs on its record. Make it again through the flow."
        )


def _same_weights(release: Manifest, checkpoint: Manifest) -> None:
    """What users load is what was evaluated, file for file."""
    for name, entry in checkpoint.files.items():
        found = release.files.get(f"{MODEL}/{name}")
        if found != entry:
            raise PromotionBlocked(
                f"expected {MODEL}/{name} of release {release.digest[:12]} to be the evaluated checkpoint's "
                f"({entry.sha256[:12]}), found {found.sha256[:12] if found else 'no such file'}. Release again."
            )
