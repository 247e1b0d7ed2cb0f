"""Checkpoints that are whole or do not exist, around DeepSpeed's own save and load.

<folder>/step-00000200/    manifest.json (written last), deepspeed/ (what the engine saves), random-00000.pt per rank,
                           state.json (what the loop remembers)
<folder>/saving-...        being written; removed at the next start
<folder>/quarantine/       what failed verification, kept for the autopsy

DeepSpeed alone writes to the final path, names the newest before all ranks are done, and starts from scratch with a
warning when it cannot read what it finds.
"""

import json
import logging
import math
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.errors import LifecycleError, StoreError
from lifecycle.sealing import FileEntry, sha256_file, write_atomically
from lifecycle.training.distributed import only_tensors

MANIFEST = "manifest.json"
ENGINE_TAG = "deepspeed"
STATE = "state.json"

log = logging.getLogger(__name__)


class CheckpointManifest(BaseModel):
    """What one checkpoint holds, and which run it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    made_by: dict[str, Any]
    files: dict[str, FileEntry]


class Checkpoints:
    """The checkpoints of one run. Every method is a collective: all ranks call it, with the same arguments."""

    def __init__(self, folder: Path, *, keep: int, made_by: Mapping[str, Any]) -> None:
        """`made_by` says what a checkpoint must agree with to be resumed from, as plain JSON values."""
        self.folder, self.keep, self.made_by = folder, keep, dict(made_by)
        self.rank = dist.get_rank()

    def save(self, engine: Any, step: int, state: Mapping[str, Any]) -> Path:
        """The checkpoint of `step`: all ranks wrote, each byte is digested and durable, and then it got its name.

        `state` is what else a run has to remember, as plain JSON, the same on every rank.
        """
        saving, final = self.folder / f"saving-{step:08d}", self.folder / f"step-{step:08d}"
        if self.rank == 0:
            shutil.rmtree(saving, ignore_errors=True)
            saving.mkdir(parents=True)
        dist.barrier()
        try:
            engine.save_checkpoint(str(saving), tag=ENGINE_TAG, save_latest=False)
            torch.save(_random_state(), saving / f"random-{self.rank:05d}.pt")
            dist.barrier()
            if self.rank == 0:
                (saving / STATE).write_text(json.dumps(state))
                self._seal(saving, final, step)
        except OSError as error:
            needed = sum(file.stat().st_size for file in saving.rglob("*") if file.is_file())
            raise StoreError(
                f"expected to save the checkpoint of step {step} in {self.folder}, found: {error} "
                f"({needed:,} bytes written, {shutil.disk_usage(self.folder).free:,} free). Earlier checkpoints are "
                "whole; make room and give the same command."
            ) from error
        dist.barrier()
        return final

    def load_newest(self, engine: Any, *, at_most: float = math.inf) -> tuple[int, dict[str, Any]]:
        """Restore the newest checkpoint up to step `at_most` that verifies; its step, 0 when there is none, and the
        state with it.

        What fails verification is named, quarantined, and the one before it is tried. Raises LifecycleError when there
        were checkpoints and none can be read: "cannot read it" is not "there is none".
        """
        chosen: list[Any] = [self._choose(at_most) if self.rank == 0 else None]
        dist.broadcast_object_list(chosen, src=0)  # one rank looks, so that all see the same
        step, problem = int(chosen[0][0]), str(chosen[0][1])
        if problem:
            raise LifecycleError(problem)
        if step == 0:
            return 0, {}
        path = self.folder / f"step-{step:08d}"
        with only_tensors():
            engine.load_checkpoint(str(path), tag=ENGINE_TAG)
            _restore_random_state(torch.load(path / f"random-{self.rank:05d}.pt", weights_only=True))
        return step, json.loads((path / STATE).read_bytes())

    def roll_back(self, engine: Any, *, at_most: int) -> tuple[int, dict[str, Any]]:
        """As `load_newest` up to step `at_most`; the younger ones are removed, unless they are all there is."""
        step, state = self.load_newest(engine, at_most=at_most)
        dist.barrier()
        if self.rank == 0 and step:
            for path in self._named():
                if _step_of(path) > step:
                    shutil.rmtree(path)
        return step, state

    def _seal(self, saving: Path, final: Path, step: int) -> None:
        files = _entries(saving)
        for name in files:
            _fsync(saving / name)
        for folder in {(saving / name).parent for name in files}:
            _fsync(folder)
        manifest = CheckpointManifest(step=step, made_by=self.made_by, files=files)
        write_atomically(saving / MANIFEST, manifest.model_dump_json(indent=1).encode())
        if final.exists():  # a run that went back to an older checkpoint makes the younger ones again
            shutil.rmtree(final)
        saving.rename(final)
        _fsync(self.folder)
        for old in self._named()[: -self.keep]:
            shutil.rmtree(old)

    def _choose(self, at_most: float) -> tuple[int, str]:
        """The step to resume from and an empty string, or why the run must not go on. Only rank 0 asks."""
        for unfinished in self.folder.glob("saving-*"):
            shutil.rmtree(unfinished)
        for path in reversed([path for path in self._named() if _step_of(path) <= at_most]):
            try:
                manifest = _verify(path)
            except (OSError, ValueError, ValidationError) as error:
                kept = self._quarantine(path)
                log.warning(
                    "checkpoint %s failed verification: %s. Moved to %s, trying the one before", path, error, kept
                )
                continue
            if difference := _differences(manifest.made_by, self.made_by):
                return 0, (
                    f"expected a checkpoint of this run in {path}, found one with {difference}. Use the settings it "
                    f"was made with, or remove {self.folder} to start over."
                )
            return manifest.step, ""
        quarantined = sorted(path.name for path in self.folder.glob("quarantine/*"))
        if quarantined:
            return 0, (
                f"expected a readable checkpoint in {self.folder}, found only damaged ones: {', '.join(quarantined)} "
                f"(in quarantine/). Restore one, or remove {self.folder} to start over from step 0."
            )
        return 0, ""

    def _named(self) -> list[Path]:
        """Folders named as checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))

    def _quarantine(self, path: Path) -> Path:
        target = self.folder / "quarantine" / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        return path.rename(target)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _verify(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose every file is what it was; OSError or ValueError says what is not."""
    manifest = CheckpointManifest.model_validate_json((path / MANIFEST).read_bytes())
    found = _entries(path)
    for name in sorted({*manifest.files, *found}):
        if manifest.files.get(name) != found.get(name):
            raise ValueError(f"{name}: expected {manifest.files.get(name)}, found {found.get(name)}")
    return manifest


def _entries(folder: Path) -> dict[str, FileEntry]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST)
    return {
        file.relative_to(folder).as_posix(): FileEntry(bytes=file.stat().st_size, sha256=sha256_file(file))
        for file in files
    }


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed, as `name: old -> new`; empty when nothing did."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return ", ".join(f"{name}: {then.get(name)!r} (now {now.get(name)!r})" for name in names)


def _random_state() -> dict[str, Any]:
    """Every generator's state in types `torch.load(weights_only=True)` reads."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
