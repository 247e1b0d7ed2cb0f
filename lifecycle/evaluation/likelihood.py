"""How probable given texts are after given prompts; a prompt with several continuations is read once.

# B prompts, N continuations, T tokens, V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lifecycle.evaluation.llama import Llama
from lifecycle.evaluation.padded import padded
from lifecycle.evaluation.scoring import target_scores

NOT_FINITE = "logits_not_finite"
UNSCORED = -100
FILL = 0  # of rows that are shorter: masks come from lengths, so that any id will do, the padding or stop id too


class Question(NamedTuple):
    """One prompt and its continuations, as ids; neither is empty."""

    prompt: list[int]
    continuations: list[list[int]]


@dataclass(frozen=True)
class Found:
    """ln p of a continuation, and whether each of its tokens is the model's first choice."""

    log_probability: float
    first_choice: list[bool]


@torch.inference_mode()
def log_probabilities(model: Any, questions: Sequence[Question]) -> list[list[Found]]:
    """For each question, its continuations in their order. NaN stays NaN: the caller must not take it for a number."""
    if isinstance(model, Llama):
        return _in_a_tree(model, questions)
    if all(len(question.continuations) == 1 for question in questions):
        return _one_pass(model, questions)
    return _shared_prompt(model, questions)


def _in_a_tree(model: Llama, questions: Sequence[Question]) -> list[list[Found]]:
    """Every prompt and continuation as a row: what rows begin with is read once anyway."""
    targets = [continuation for question in questions for continuation in question.continuations]
    fed = [[*question.prompt, *target[:-1]] for question in questions for target in question.continuations]
    found = iter([Found(-float(nats.sum()), list(map(bool, first))) for nats, first in model.scores(fed, targets)])
    return [[next(found) for _ in question.continuations] for question in questions]


def _one_pass(model: Any, questions: Sequence[Question]) -> list[list[Found]]:
    """Prompt and continuation in one row. Logits are made for the longest continuation only, not for the prompt."""
    targets = [question.continuations[0] for question in questions]
    fed = [[*question.prompt, *target[:-1]] for question, target in zip(questions, targets, strict=True)]
    ids_BT, mask_BT = padded(fed, FILL, model.device, left=True)
    wanted_BT, known_BT = padded(targets, 0, model.device, left=True)
    nats_BT, first_BT = target_scores(
        model,
        wanted_BT.where(known_BT.bool(), UNSCORED),
        input_ids=ids_BT,
        attention_mask=mask_BT,
        position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0),
    )
    return [[found] for found in _found(nats_BT, first_BT, known_BT)]


def _shared_prompt(model: Any, questions: Sequence[Question]) -> list[list[Found]]:
    """Prompts once, with a key-value cache; then every continuation behind its prompt's cache."""
    prompts_BT, mask_BT = padded([question.prompt for question in questions], FILL, model.device, left=True)
    cache = DynamicCache(config=model.config)
    first_BV = (
        model(
            input_ids=prompts_BT,
            attention_mask=mask_BT,
            position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        .logits[:, -1]
        .float()
    )
    owner = [number for number, question in enumerate(questions) for _ in question.continuations]
    targets = [continuation for question in questions for continuation in question.continuations]
    each_N = torch.tensor(owner, device=model.device)
    wanted_NT, known_NT = padded(targets, 0, model.device, left=False)
    nats_NT = (first_BV.logsumexp(-1)[each_N] - first_BV[each_N, wanted_NT[:, 0]])[:, None]
    first_NT = (first_BV.argmax(-1)[each_N] == wanted_NT[:, 0])[:, None]
    if wanted_NT.shape[1] > 1:
        cache.batch_select_indices(each_N)
        fed_mask_NT = known_NT[:, 1:]
        more_NT, more_first_NT = target_scores(
            model,
            wanted_NT[:, 1:].where(fed_mask_NT.bool(), UNSCORED),
            input_ids=wanted_NT[:, :-1].where(fed_mask_NT.bool(), FILL),
            attention_mask=torch.cat([mask_BT[each_N], fed_mask_NT], dim=1),
            position_ids=mask_BT.sum(1)[each_N, None] + torch.arange(fed_mask_NT.shape[1], device=model.device)[None],
            past_key_values=cache,
        )
        nats_NT, first_NT = torch.cat([nats_NT, more_NT], dim=1), torch.cat([first_NT, more_first_NT], dim=1)
    found = iter(_found(nats_NT, first_NT, known_NT))
    return [[next(found) for _ in question.continuations] for question in questions]


def _found(nats_NT: Tensor, first_NT: Tensor, known_NT: Tensor) -> list[Found]:
    """Summed log-probabilities of the wanted tokens where they are known, padding left out."""
    total_N = -nats_NT.double().where(known_NT.bool(), 0.0).sum(1)
    rows = zip(total_N.tolist(), first_NT.tolist(), known_NT.tolist(), strict=True)
    return [Found(total, [f for f, k in zip(first, known, strict=True) if k]) for total, first, known in rows]
