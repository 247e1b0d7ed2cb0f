"""What a new desk is made of: answers from files, or drawn from checkpoints before the page opens."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle import progress
from lifecycle.artifacts import Checkpoint
from lifecycle.desk.folder import Desk, DeskConfig, make_desk
from lifecycle.desk.items import AnswerSet, read_answers
from lifecycle.errors import ConfigError
from lifecycle.launch import run_worker
from lifecycle.model.foreign import read_config
from lifecycle.progress import Progress
from lifecycle.sealing import (
    MANIFEST,
    SCRATCH_FOLDER,
    canonical,
    raw_file_digest,
    sha256_file,
    short_digest,
    write_atomically,
)
from lifecycle.stages.comparisons import WORKER, Drawn, SampleJob

ANSWERS = "answers.jsonl"
DRAWN = "drawn.json"
"""Written after the answers: without it they are drawn again."""


class Wanted(NamedTuple):
    """What somebody asked for."""

    config: DeskConfig
    answers: Sequence[Path]
    gold: Path | None
    prompts: Path | None
    checkpoints: Mapping[str, Path]
    samples: int | None
    temperature: float
    max_new_tokens: int
    store: Path


class _Source(NamedTuple):
    """A checkpoint whose answers are compared."""

    name: str
    path: Path
    digest: str
    max_seq_len: int
    seed: int


def made(wanted: Wanted, folder: Path | None, *, tell: Callable[[str], object] = print) -> Desk:
    """The desk that was asked for: the same one again when it is there, with what was drawn for it."""
    check(wanted)
    # Another seed for each: with the same one, two models that are alike draw the same words.
    sources = [_source(name, path, wanted.config.seed + n) for n, (name, path) in enumerate(wanted.checkpoints.items())]
    made_of = _made_of(wanted, sources)
    if folder is None:
        folder = wanted.store / "desks" / short_digest(canonical({"config": wanted.config, "made_of": made_of}))
    return make_desk(
        folder,
        wanted.config,
        made_of,
        lambda: _answers(wanted, sources, folder, tell),
        gold=wanted.gold,
        systems={source.digest: source.name for source in sources},
    )


def check(wanted: Wanted) -> None:
    """Raise ConfigError where it is not clear what is to be compared."""
    if bool(wanted.answers) == bool(wanted.checkpoints) or bool(wanted.checkpoints) != (wanted.prompts is not None):
        raise ConfigError(
            "expected answers to compare, found none, or two kinds of them. Give --answers FILE, or --checkpoint A "
            "--prompts FILE."
        )
    if wanted.checkpoints and (wanted.temperature <= 0 or _samples(wanted) < 1 or wanted.max_new_tokens < 1):
        raise ConfigError("expected --temperature above 0, and --samples and --max-new-tokens of 1 or more.")


def _made_of(wanted: Wanted, sources: Sequence[_Source]) -> dict[str, Any]:
    if wanted.prompts is None:
        return {"answers": [sha256_file(path) for path in wanted.answers]}
    if len({source.digest for source in sources}) < len(sources):
        raise ConfigError("expected two different checkpoints, found the same one twice. Leave --against out.")
    return {
        "prompts": sha256_file(wanted.prompts),
        "checkpoints": {source.digest: source.seed for source in sources},
        "answers_per_prompt": _samples(wanted),
        "temperature": wanted.temperature,
        "max_new_tokens": wanted.max_new_tokens,
    }


def _samples(wanted: Wanted) -> int:
    return (2 if len(wanted.checkpoints) == 1 else 1) if wanted.samples is None else wanted.samples


def _source(name: str, path: Path, seed: int) -> _Source:
    """A sealed checkpoint, every byte verified, or a plain model folder."""
    if (path / MANIFEST).is_file():
        checkpoint = Checkpoint.load(path)
        return _Source(name, path, checkpoint.digest, checkpoint.max_seq_len, seed)
    return _Source(name, path, raw_file_digest(path), int(read_config(path)["max_position_embeddings"]), seed)


def _answers(
    wanted: Wanted, sources: Sequence[_Source], folder: Path, tell: Callable[[str], object]
) -> tuple[list[AnswerSet], Counter[str]]:
    if wanted.prompts is None:
        return read_answers(wanted.answers), Counter()
    left_out: Counter[str] = Counter()
    for source in sources:
        with progress.listening(_teller(source.name, tell)):
            drawn = _drawn(wanted, source, folder / "answers" / source.digest[:16])
        left_out["answer that did not stop"] += drawn.not_stopped
        left_out["prompt without room for an answer"] += drawn.too_long
    return read_answers([folder / "answers" / source.digest[:16] / ANSWERS for source in sources]), left_out


def _drawn(wanted: Wanted, source: _Source, out_dir: Path) -> Drawn:
    """What was drawn from a checkpoint: now, or before the desk was last stopped, if the bytes are still those."""
    assert wanted.prompts is not None
    asked = {
        "answers_per_prompt": _samples(wanted),
        "temperature": wanted.temperature,
        "max_new_tokens": wanted.max_new_tokens,
        "seed": source.seed,
    }
    told = {**asked, "checkpoint": source.digest, "prompts": sha256_file(wanted.prompts)}
    answers, record = out_dir / ANSWERS, out_dir / DRAWN
    if record.is_file() and answers.is_file():
        known = json.loads(record.read_bytes())
        if known["asked"] == told and known["sha256"] == sha256_file(answers):
            return Drawn.model_validate(known["drawn"])
    out_dir.mkdir(parents=True, exist_ok=True)
    job = SampleJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        model=source.path.absolute(),
        prompts=wanted.prompts.absolute(),
        answers=answers.absolute(),
        checkpoint=source.digest,
        max_seq_len=source.max_seq_len,
        **asked,
    )
    drawn = run_worker(WORKER, job, Drawn, on_accelerators=True)
    kept = {"asked": told, "sha256": sha256_file(answers), "drawn": drawn.model_dump()}
    write_atomically(record, json.dumps(kept, indent=1).encode())
    return drawn


def _teller(name: str, tell: Callable[[str], object]) -> Callable[[Progress], None]:
    """Says how far the sampling is, at most ten times."""
    last = -1

    def listen(at: Progress) -> None:
        nonlocal last
        if at.total and int(10 * at.share) > last:
            last = int(10 * at.share)
            tell(f"answers of {name}: {at.done:,.0f} of {at.total:,.0f} {at.unit}")

    return listen
