"""Releases with all they stand on, sealed in a store in milliseconds: checkpoint, report, decision, release."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lifecycle.artifacts import Check, Checkpoint, EvalReport, GateDecision, Release, Score
from lifecycle.sealing import Artifact, StageConfig, later_field
from lifecycle.store import Store

SCORE = Score(mean=0.9, low=0.8, high=0.95, items=100)


@contextmanager
def store_in_memory(otherwise: Path) -> Iterator[Store]:
    """A store in memory where there is such a place: a release is 30 fsyncs, 0.1-1 s on a busy disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else otherwise
    with tempfile.TemporaryDirectory(prefix="lifecycle-tests-", dir=place) as folder:
        yield Store(Path(folder))


class MadeUp(StageConfig):
    stage = "made_up"
    name: str
    approval: str = later_field("none")


def make_release(
    store: Store,
    name: str,
    *,
    against: Release | None = None,
    verdict: Literal["PROMOTE", "BLOCK", "INCONCLUSIVE"] = "PROMOTE",
    card: str = "",
    approval: str = "none",
) -> Release:
    """A release of the checkpoint `name`, decided against another one's checkpoint."""
    place = f"{name}-{against.digest[:8] if against else 'first'}-{verdict}-{card}"
    config = MadeUp(name=name, approval=approval)
    checkpoint = _checkpoint(store, name)
    report = EvalReport(
        path=_folder(store, "evaluate", place),
        checkpoint_digest=checkpoint.digest,
        protocol_digest="p",
        suites_digest="s",
        scores={"exact": SCORE},
        baselines={},
    ).seal(config, checkpoint)
    decision = GateDecision(
        path=_folder(store, "gate", place),
        verdict=verdict,
        checkpoint_digest=checkpoint.digest,
        report_digest=report.digest,
        against=against.checkpoint_digest if against else None,
        checks=[Check(metric="exact", rule="floor", verdict="PASS", reason="", candidate=0.9)],
    ).seal(config, report)
    folder = _folder(store, "release", place)
    for file in checkpoint.manifest.files:
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / file).write_bytes((checkpoint.path / file).read_bytes())
    (folder / "model" / "README.md").write_text(card)
    digests = {"decision_digest": decision.digest, "report_digest": report.digest}
    released = Release(path=folder, checkpoint_digest=checkpoint.digest, **digests, scores={"exact": 0.9})
    return released.seal(config, checkpoint, decision, report)


def reseal(artifact: Artifact, *inputs: Artifact, **facts: object) -> Artifact:
    """What a forger makes of an artifact: other facts, and a manifest that fits them."""
    os.unlink(artifact.path / "manifest.json")
    forged = type(artifact)(path=artifact.path, **{**artifact.facts(), **facts})
    return forged.seal(MadeUp(name="forged"), *inputs)


def _checkpoint(store: Store, name: str) -> Checkpoint:
    folder = store.root / "artifacts" / "preference" / name
    if folder.exists():
        return Checkpoint.load(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": name}))
    (folder / "model.safetensors").write_bytes(name.encode() * 100)
    sizes = {"parameters": 10, "max_seq_len": 8, "steps": 5, "tokens_seen": 40}
    made = Checkpoint(path=folder, role="preference", protocol_digest="p", final_loss=2.6, **sizes)
    return made.seal(MadeUp(name=name))


def _folder(store: Store, stage: str, name: str) -> Path:
    folder = store.root / "artifacts" / stage / name
    folder.mkdir(parents=True)
    return folder
