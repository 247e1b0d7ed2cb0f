"""Checkpoints that are whole or do not exist, and that any number of ranks can go on from.

<folder>/step-00000200/    manifest.json (written last), state-00000.safetensors per rank (`training.fragments`),
                           random-00000.pt per rank, state.json (what the loop remembers)
<folder>/saving-...        being written; removed at the next start
<folder>/best.json         which validated checkpoint is the best, and its held-out loss
<folder>/quarantine/       what failed verification, kept for the autopsy

DeepSpeed alone writes to the final path, names the newest before all ranks are done, and starts from scratch with a
warning when it cannot read what it finds; its files are pickles, and belong to one ZeRO stage and number of ranks.
"""

import io
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.errors import LifecycleError, StoreError
from lifecycle.sealing import FileEntry, sha256_file, write_atomically
from lifecycle.training import fragments, random_state
from lifecycle.training.agreement import on_first, together

MANIFEST = "manifest.json"
STATE = "state.json"
BEST = "best.json"

log = logging.getLogger(__name__)


class CheckpointManifest(BaseModel):
    """What one checkpoint holds, which run it belongs to, and how that was spread over ranks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    made_by: dict[str, Any]
    layout: dict[str, Any]
    ranks: int
    files: dict[str, FileEntry]


class Checkpoints:
    """The checkpoints of one run. Every method is a collective: all ranks call it, with the same arguments."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        made_by: Mapping[str, Any],
        layout: Mapping[str, Any] | None = None,
        reshard: bool = False,
        keep_best: bool = True,
    ) -> None:
        """`made_by` says what a checkpoint must agree with to be resumed from, as plain JSON values; so does `layout`,
        unless `reshard` asks for another one: how the same training is spread over ranks.
        """
        self.folder, self.keep, self.keep_best, self.reshard = folder, keep, keep_best, reshard
        self.made_by, self.layout = _flat(made_by), _flat(layout or {})
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()

    def must_have_room(self, engine: Any) -> None:
        """Raise StoreError where the disk cannot hold all checkpoints that are kept, and the next one beside them."""
        copies = self.keep + self.keep_best + 1
        on_first(lambda: self._check_room(fragments.bytes_to_save(engine), copies))

    def save(self, engine: Any, step: int, state: Mapping[str, Any]) -> Path:
        """The checkpoint of `step`: all ranks wrote, each byte is digested and durable, and then it got its name.

        `state` is what else a run has to remember, as plain JSON, the same on every rank. Raises StoreError on every
        rank when one of them cannot write: to train on would only lose more, and nobody looks at a warning at night.
        """
        saving, final = self.folder / f"saving-{step:08d}", self.folder / f"step-{step:08d}"
        try:
            on_first(lambda: self._begin(saving, fragments.bytes_to_save(engine)))
            files = together(lambda: _write_share(engine, saving, self.rank))
            on_first(lambda: self._seal(saving, final, step, state, dict(entry for own in files for entry in own)))
        except OSError as error:
            raise StoreError(
                f"expected to save the checkpoint of step {step} in {self.folder}, found: {error} "
                f"({fragments.bytes_to_save(engine):,} bytes needed, {self._free():,} free). Earlier checkpoints are "
                "whole; make room and give the same command."
            ) from error
        return final

    def load_newest(self, engine: Any, *, at_most: float = math.inf) -> tuple[int, dict[str, Any]]:
        """Restore the newest checkpoint up to step `at_most` that verifies; its step, 0 when there is none, and the
        state with it.

        What fails verification is named, quarantined, and the one before it is tried. Raises LifecycleError when there
        were checkpoints and none can be read: "cannot read it" is not "there is none".
        """
        on_first(self._remove_unfinished)
        while (path := on_first(lambda: self._newest(at_most))) is not None:
            if not (problem := self._problem_of(path)):
                return self._restore(engine, path)
            on_first(partial(self._quarantine, path, problem))
        on_first(self._must_be_none)
        return 0, {}

    def roll_back(self, engine: Any, *, at_most: int) -> tuple[int, dict[str, Any]]:
        """As `load_newest` up to step `at_most`; the younger ones are removed, unless they are all there is."""
        step, state = self.load_newest(engine, at_most=at_most)
        if step:
            on_first(lambda: self._remove([path for path in self._named() if _step_of(path) > step]))
        return step, state

    def validated(self, step: int, loss: float) -> None:
        """Remember the checkpoint of `step` as the best, if it is there and no other has a lower held-out loss."""
        if self.keep_best and self.rank == 0 and math.isfinite(loss) and (self.folder / f"step-{step:08d}").is_dir():
            best = self._best()
            if best is None or loss < best[1]:
                write_atomically(self.folder / BEST, json.dumps({"step": step, "validation_loss": loss}).encode())
                self._prune()

    def _restore(self, engine: Any, path: Path) -> tuple[int, dict[str, Any]]:
        manifest = _manifest(path)
        if difference := _differences(manifest.made_by, self.made_by):
            raise LifecycleError(
                f"expected a checkpoint of this run in {path}, found one with {difference}. Use the settings it was "
                f"made with, or remove {self.folder} to start over."
            )
        if difference := _differences(manifest.layout, self.layout):
            if not self.reshard:
                raise LifecycleError(
                    f"expected a checkpoint in {path} that is spread over ranks as now, found one with {difference}. "
                    "Set reshard=true for this stage to go on with it as it is now (the data keeps its order, losses "
                    "differ by rounding), or use the settings it was made with."
                )
            if self.rank == 0:
                log.warning("resharded %s: %s", path, difference)
        fragments.load(engine, path)
        if manifest.ranks == self.ranks:
            random_state.restore(torch.load(path / f"random-{self.rank:05d}.pt", weights_only=True))
        else:  # nobody's state is this rank's; no network of ours draws anything after its first weights
            torch.manual_seed(manifest.step * self.ranks + self.rank)
        return manifest.step, json.loads((path / STATE).read_bytes())

    def _check_room(self, size: int, copies: int) -> None:
        """OSError or StoreError when `copies` checkpoints do not fit beside what is not ours."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        free = self._free()
        if (missing := copies * size - free - held) > 0:
            raise StoreError(
                f"expected room for {copies} checkpoints of {size:,} bytes in {self.folder} (those that are kept, and "
                f"one being written), found {free:,} bytes free and {held:,} of this run: {missing:,} are missing. "
                "Make room, or lower the stage's keep_checkpoints."
            )

    def _begin(self, saving: Path, size: int) -> None:
        shutil.rmtree(saving, ignore_errors=True)
        saving.mkdir(parents=True)
        if size > self._free():
            raise OSError("too little space on the disk")

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _seal(
        self, saving: Path, final: Path, step: int, state: Mapping[str, Any], files: dict[str, FileEntry]
    ) -> None:
        (saving / STATE).write_text(json.dumps(state))
        files[STATE] = _durable(saving / STATE)
        manifest = CheckpointManifest(
            step=step, made_by=self.made_by, layout=self.layout, ranks=self.ranks, files=files
        )
        write_atomically(saving / MANIFEST, manifest.model_dump_json(indent=1).encode())
        if final.exists():  # a run that went back to an older checkpoint makes the younger ones again
            shutil.rmtree(final)
        saving.rename(final)
        _fsync(self.folder)
        self._prune()

    def _prune(self) -> None:
        best = self._best()
        self._remove([path for path in self._named()[: -self.keep] if best is None or _step_of(path) != best[0]])

    def _best(self) -> tuple[int, float] | None:
        """Step and held-out loss of the best checkpoint, where it is kept and still there."""
        try:
            best = json.loads((self.folder / BEST).read_bytes())
            step, loss = int(best["step"]), float(best["validation_loss"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (step, loss) if self.keep_best and (self.folder / f"step-{step:08d}").is_dir() else None

    def _problem_of(self, path: Path) -> str:
        """Why a checkpoint is not to be trusted, empty when it is; each rank reads its share of the files."""
        return next(filter(None, together(lambda: _problem_of_share(path))), "")

    def _newest(self, at_most: float) -> Path | None:
        return next((path for path in reversed(self._named()) if _step_of(path) <= at_most), None)

    def _must_be_none(self) -> None:
        if quarantined := sorted(path.name for path in self.folder.glob("quarantine/*")):
            raise LifecycleError(
                f"expected a readable checkpoint in {self.folder}, found only damaged ones: {', '.join(quarantined)} "
                f"(in quarantine/). Restore one, or remove {self.folder} to start over from step 0."
            )

    def _named(self) -> list[Path]:
        """Folders named as checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))

    def _remove_unfinished(self) -> None:
        self._remove(list(self.folder.glob("saving-*")))

    @staticmethod
    def _remove(paths: list[Path]) -> None:
        for path in paths:
            shutil.rmtree(path)

    def _quarantine(self, path: Path, problem: str) -> None:
        target = self.folder / "quarantine" / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        path.rename(target)
        log.warning("checkpoint %s failed verification: %s. Moved to %s, trying the one before", path, problem, target)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _write_share(engine: Any, saving: Path, rank: int) -> list[tuple[str, FileEntry]]:
    """Write what this rank has to save, make it durable; name and digest of its files."""
    own = [fragments.save(engine, saving), saving / f"random-{rank:05d}.pt"]
    drawn = io.BytesIO()  # to a file that cannot be written torch says RuntimeError
    torch.save(random_state.of_this_process(), drawn)
    own[1].write_bytes(drawn.getvalue())
    _fsync(saving)
    return [(path.name, _durable(path)) for path in own]


def _durable(path: Path) -> FileEntry:
    _fsync(path)
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path))


def _manifest(path: Path) -> CheckpointManifest:
    return CheckpointManifest.model_validate_json((path / MANIFEST).read_bytes())


def _problem_of_share(path: Path) -> str:
    """What is wrong with those of a checkpoint's files that are this rank's to check; empty when nothing is."""
    try:
        manifest = _manifest(path)
        if manifest.step != _step_of(path):
            raise ValueError(f"{MANIFEST}: it is of step {manifest.step}")
        listed = manifest.files
        found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - {MANIFEST}
        if odd := sorted(found ^ set(listed)):
            raise ValueError(f"{odd[0]}: {'not in the manifest' if odd[0] in found else 'missing'}")
        for name in sorted(listed)[dist.get_rank() :: dist.get_world_size()]:
            entry = FileEntry(bytes=(path / name).stat().st_size, sha256=sha256_file(path / name))
            if entry != listed[name]:
                raise ValueError(f"{name}: expected {listed[name]}, found {entry}")
    except (OSError, ValueError, ValidationError) as error:
        return str(error)
    return ""


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by their dotted names, as `--set` takes them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed, as `name: old -> new`; empty when nothing did."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return ", ".join(f"{name}: {then.get(name)!r} -> {now.get(name)!r}" for name in names)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
