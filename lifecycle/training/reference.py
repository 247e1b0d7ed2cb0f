"""Log-probabilities under the reference: computed once for a checkpoint and its rows, sealed, and proven before use.

They do not depend on how a run is spread, nor on what it learns with: a resume reads them, and so does a rerun with
other settings.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lifecycle.errors import ContractError
from lifecycle.sealing import write_atomically
from lifecycle.training.pairs import Asked

AT_ONCE = 32  # prompts: a number of its own, so that micro batches and ranks leave no trace in the numbers
PROVEN = 8
TOLERANCE = {"fp32": 1e-3, "bf16": 0.08}
"""Of log p a token, between the same model in batches of other shapes: bf16 has 8 bits."""

Score = Callable[[Sequence[Asked]], Tensor]
"""log p of every answer, (prompts, answers), by the model as it is before its first step."""


def key_of(asked: Sequence[Asked], *circumstances: str) -> str:
    """What names these numbers: the model's digest, how it computes, and every id."""
    digest = hashlib.sha256(json.dumps(circumstances).encode())
    for one in asked:
        digest.update(json.dumps([list(one.prompt_ids), *map(list, one.answers)]).encode())
    return digest.hexdigest()


def reference(
    asked: Sequence[Asked], score: Score, file: Path | None, key: str, *, precision: str
) -> tuple[Tensor, bool]:
    """log p of every answer, (prompts, answers), and whether it was read; None as `file` keeps nothing."""
    if file is not None and (found := _read(file, key)) is not None:
        _prove(asked, found, score, file, TOLERANCE[precision])
        return found, True
    order = sorted(range(len(asked)), key=lambda n: len(asked[n].prompt_ids) + sum(map(len, asked[n].answers)))
    parts = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
    values = torch.empty(len(asked), len(asked[0].answers))
    for part in parts:
        values[part] = score([asked[n] for n in part]).float().cpu()
    return values, False


def seal(file: Path, key: str, values: Tensor) -> None:
    """Keep them: written whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, save({"log_probs": values}, {"key": key, "sha256": _digest(values)}))


def _read(file: Path, key: str) -> Tensor | None:
    """What is sealed there, or None where nothing is. Damaged, it is refused: nothing is computed over it unsaid."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            said: dict[str, Any] = opened.metadata() or {}
            values: Tensor = opened.get_tensor("log_probs")
    except (SafetensorError, OSError) as error:
        raise ContractError(f"{file}: expected sealed log-probabilities, found: {error}. Remove the file.") from error
    if (said.get("key"), said.get("sha256")) != (key, _digest(values)):
        raise ContractError(
            f"{file}: expected the reference's log-probabilities {key[:12]} as they were sealed, found others "
            f"({str(said.get('key'))[:12]}). Remove the file; they are computed again."
        )
    return values


def _prove(asked: Sequence[Asked], found: Tensor, score: Score, file: Path, tolerance: float) -> None:
    """Raise where the model about to be trained is not the one that these numbers are from."""
    some = sorted({round(n * (len(asked) - 1) / max(1, PROVEN - 1)) for n in range(PROVEN)})
    fresh = score([asked[n] for n in some]).float().cpu()
    tokens = torch.tensor([[len(answer) for answer in asked[n].answers] for n in some])
    off = ((fresh - found[some]).abs() / tokens).max().item()
    if not off <= tolerance:
        raise ContractError(
            f"reference_is_not_the_start: expected {file.name} to hold the log-probabilities of the model before its "
            f"first step to {tolerance:g} a token, found a difference of {off:.3g}. The reference is another model; "
            "remove the file, and they are computed again."
        )


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
