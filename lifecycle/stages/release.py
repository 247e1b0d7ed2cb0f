"""A checkpoint that passed, as the plain Hugging Face folder users load, with its card and its lineage."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import orjson
from pydantic import Field

from lifecycle import contracts, sealing
from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision, Release
from lifecycle.errors import ContractError, DamagedArtifact, PromotionBlocked
from lifecycle.pages.render import model_card
from lifecycle.sealing import Manifest, StageConfig
from lifecycle.store import ancestors

# What may reach a user. A list of what is allowed: of what can carry code, the next kind is always missing.
# .jsonl holds how far a model drifted from the one it began as.
RELEASED_SUFFIXES = {
    ".safetensors",
    ".json",
    ".jsonl",
    ".jinja",
    ".txt",
}


class ReleaseConfig(StageConfig):
    """What the model card says that no artifact knows."""

    stage: ClassVar[str] = "release"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$", description="The model's name.")
    licence: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$", description="Of the weights, as Hugging Face names it."
    )
    description: str = Field("", description="What the model is, in a sentence or two.")
    intended_use: str = Field(
        "Research on training and evaluation. It was measured on the items below and on nothing else.",
        description="What it is for, and what it is not for.",
    )


def release(
    config: ReleaseConfig, checkpoint: Checkpoint, decision: GateDecision, report: EvalReport, *, out_dir: Path
) -> Release:
    """The released folder. Raises PromotionBlocked unless the gate said PROMOTE for exactly this checkpoint."""
    checkpoint, decision = Checkpoint.load(checkpoint.path), GateDecision.load(decision.path)
    report = EvalReport.load(report.path)
    contracts.decided_for(decision, checkpoint, report)
    contracts.report_on(report, checkpoint.digest)
    if not decision.promote:
        open_checks = [f"{check.metric} {check.verdict}" for check in decision.checks if check.verdict != "PASS"]
        raise PromotionBlocked(
            f"expected a PROMOTE decision for checkpoint {checkpoint.digest[:12]}, found {decision.verdict}: "
            f"{', '.join(open_checks) or 'nothing was checked'}. Train a better one, or gate by other rules."
        )
    released = Release(
        path=out_dir,
        checkpoint_digest=checkpoint.digest,
        decision_digest=decision.digest,
        report_digest=report.digest,
        scores={name: score.mean for name, score in report.scores.items() if score.mean is not None},
    )
    copy_model(checkpoint, released.model_dir)
    history = ancestors(checkpoint)
    card = model_card(
        **config.model_dump(),
        checkpoint=checkpoint,
        decision=decision,
        report=report,
        lineage=history,
        model_type=_object(checkpoint.path / "config.json").get("model_type", "unknown"),
    )
    (released.model_dir / "README.md").write_text(card, encoding="utf-8")
    chain = lineage([*history, checkpoint.manifest, report.manifest, decision.manifest])
    (out_dir / "lineage.json").write_bytes(orjson.dumps(chain, option=orjson.OPT_INDENT_2))
    return released.seal(config, checkpoint, decision, report)


def copy_model(checkpoint: Checkpoint, target: Path) -> None:
    """Copy the model folder byte for byte; a file that could carry code is refused, not left behind."""
    for name, entry in checkpoint.manifest.files.items():
        path = PurePosixPath(name)
        if path.suffix not in RELEASED_SUFFIXES:
            raise ContractError(
                f"expected only {', '.join(sorted(RELEASED_SUFFIXES))} files in a checkpoint, found {name!r}. Weights "
                "belong in safetensors; have the stage that made it write nothing else."
            )
        if path.suffix == ".json" and "auto_map" in _object(checkpoint.path / name):
            raise ContractError(f"expected a model without code of its own, found 'auto_map' in {name!r}. Remove it.")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint.path / name, target / name)
        if sealing.sha256_file(target / name) != entry.sha256:
            raise DamagedArtifact(f"{target / name}: the copy differs from {entry.sha256[:12]}. Check the disk.")


def lineage(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """What each artifact was made from and is, without when and how fast: the same release has the same bytes."""
    kept = {"kind", "stage", "revision", "digest", "fingerprint", "config", "inputs", "facts", "files"}
    return [manifest.model_dump(mode="json", include=kept) for manifest in manifests]


def _object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    return value if isinstance(value, dict) else {}
