"""What an answer is worth: by the reward model, or by the contract itself."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tokenizers
import torch

from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.evaluation.checks import parse_checks, verdicts
from lifecycle.evaluation.grading import grade, json_objects
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.workers.rollout import Answer, Asked, Row

JUDGED = 128  # conversations at once


class Scores(Protocol):
    """Gives every answer a number; a critic's begins at (its own - centre) / scale."""

    centre: float
    scale: float

    def of(self, answers: Sequence[Answer]) -> list[float]: ...


class ByModel:
    """Rewards with mean 0 and variance 1 over the answers of comparisons, so that one KL coefficient suits any judge.

    Ziegler et al. 2019, section 2.1, https://arxiv.org/abs/1909.08593, normalise so before training.
    """

    def __init__(self, folder: Path, device: torch.device, known: Sequence[Sequence[int]]) -> None:
        self.judge = RewardJudge(folder, device)
        rewards = torch.tensor(rewards_of(self.judge, known), dtype=torch.float64)
        self.centre, self.scale = float(rewards.mean()), max(1e-6, float(rewards.std()))

    def of(self, answers: Sequence[Answer]) -> list[float]:
        rewards = rewards_of(self.judge, [answer.whole for answer in answers])
        return [(one - self.centre) / self.scale for one in rewards]


def rewards_of(judge: RewardJudge, rows: Sequence[Sequence[int]]) -> list[float]:
    """The judge's reward for each conversation; raises where one is no finite number."""
    found = [one for at in range(0, len(rows), JUDGED) for one in judge.rewards(rows[at : at + JUDGED])]
    rewards = [one for one in found if one is not None]
    if len(rewards) < len(rows):
        raise WorkerFailed(f"expected finite rewards, found {len(rows) - len(rewards)} that are not. Train them anew.")
    return rewards


class ByContract:
    """1 for an answer that is exactly what its comparison says is right, else 0; of `checks`, the share that hold."""

    centre, scale = 0.0, 1.0

    def __init__(self, prompts: Sequence[Asked], tokenizer: tokenizers.Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.judges = {tuple(asked.ids): _checked(asked.row) or _graded(asked.row) for asked in prompts}

    def of(self, answers: Sequence[Answer]) -> list[float]:
        return [self.judges[tuple(answer.prompt)](self._text(answer)) for answer in answers]

    def _text(self, answer: Answer) -> str:
        # Special tokens stay visible: an answer with a role token in it is not terse.
        return self.tokenizer.decode(answer.ids[: len(answer.ids) - answer.stopped], skip_special_tokens=False)


def _checked(row: Row) -> Callable[[str], float] | None:
    """The share of the row's own checks that hold."""
    if "checks" not in row:
        return None
    checks = parse_checks(row["checks"])
    return lambda text: sum(verdicts(checks, text)) / len(checks)


def _graded(row: Row) -> Callable[[str], float]:
    """1 where an answer is exactly the right one."""
    field, value = right_answer(row)
    return lambda text: float(grade(text, field, value).exact)


def right_answer(row: Row) -> tuple[str, Any]:
    """The field and value a comparison asks for: its own, else those of the chosen answer's one JSON object.

    What has no one right answer is refused: an average over some rows would be another reward.
    """
    if "field" in row and "value" in row:
        return str(row["field"]), row["value"]
    found = json_objects(row["chosen"][-1]["content"] or "")
    if len(found) == 1 and found[0][2] is not None and len(found[0][2]) == 1:
        ((field, value),) = found[0][2].items()
        return field, value
    raise ContractError(
        f"row {row['id']}: reward_source=contract expected field and value, checks, or a chosen answer with one JSON "
        f"object of one field, found {json.dumps(row['chosen'])[:120]}. Score by a reward model, or drop such rows."
    )
