"""Answers to prompts as the tensors of one forward, and the log-probabilities of exactly these answers.

A prompt with several answers is read once: behind it its answers lie side by side and do not see each other
(Wang and Hegde 2024, https://arxiv.org/abs/2410.20305). With rows of 98 tokens, 21 of them in answers, that is little
more than half the tokens of a row for each answer.

# R rows, T tokens of a row, N answer tokens, V vocabulary, D width
"""

import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

MOST_LOGITS = 2**27  # of one chunk, in fp32 half a GB: beyond, chunks are computed again in the backward pass


class Asked(NamedTuple):
    """A prompt and the answers to score behind it, as ids; an answer ends with the stop token."""

    prompt_ids: Sequence[int]
    answers: Sequence[Sequence[int]]


def side_by_side(asked: Sequence[Asked], *, pad_id: int, additive: bool) -> dict[str, Any]:
    """A row a prompt: prompt, answer, answer, ... Positions of every answer go on behind the prompt.

    `additive`: the mask is 0 or the least number, as eager attention takes it; else true or false, as sdpa does.
    """
    width = max(len(one.prompt_ids) + sum(map(len, one.answers)) for one in asked)
    ids_RT = torch.full((len(asked), width), pad_id)
    positions_RT, parts_RT = torch.zeros_like(ids_RT), torch.full_like(ids_RT, -1)
    scored = _Scored()
    for row, one in enumerate(asked):
        at = len(one.prompt_ids)
        ids_RT[row, :at] = torch.tensor(one.prompt_ids)
        positions_RT[row, :at], parts_RT[row, :at] = torch.arange(at), 0
        for number, answer in enumerate(one.answers, start=1):
            end = at + len(answer)
            ids_RT[row, at:end] = torch.tensor(answer)
            positions_RT[row, at:end] = torch.arange(len(answer)) + len(one.prompt_ids)
            parts_RT[row, at:end] = number
            places = [len(one.prompt_ids) - 1, *range(at, end - 1)]
            scored.answer(row * len(one.answers) + number - 1, row, places, answer)
            at = end
    seen_RTT = (parts_RT[:, None] == parts_RT[:, :, None]) | (parts_RT[:, None] == 0)
    seen_R1TT = (seen_RTT & torch.ones(width, width).tril().bool())[:, None]
    if additive:
        seen_R1TT = torch.zeros(seen_R1TT.shape).masked_fill(~seen_R1TT, torch.finfo(torch.float32).min)
    return {"input_ids": ids_RT, "attention_mask": seen_R1TT, "position_ids": positions_RT, **scored.inputs(asked)}


def padded(asked: Sequence[Asked], *, pad_id: int) -> dict[str, Any]:
    """A row an answer, its prompt before it, all first answers before all second ones; padded behind the end."""
    each = len(asked[0].answers)
    rows = [(n * each + number, one, one.answers[number]) for number in range(each) for n, one in enumerate(asked)]
    width = max(len(one.prompt_ids) + len(answer) for _, one, answer in rows)
    ids_RT, scored = torch.full((len(rows), width), pad_id), _Scored()
    for row, (name, one, answer) in enumerate(rows):
        ids, at = [*one.prompt_ids, *answer], len(one.prompt_ids)
        ids_RT[row, : len(ids)] = torch.tensor(ids)
        scored.answer(name, row, range(at - 1, len(ids) - 1), answer)
    return {"input_ids": ids_RT, **scored.inputs(asked)}


def score_answers(model: Any) -> None:
    """Have the model's forward, given what is to be scored, return log p of each answer token, (N,), in fp32.

    Only those positions are projected to the vocabulary: of the recipe's rows a fifth.
    """
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    whole = model.forward

    def forward(
        self: Any,
        *args: Any,
        row_N: Tensor | None = None,
        place_N: Tensor | None = None,
        token_N: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        if token_N is None:
            return whole(*args, **inputs)
        hidden_RTD = self.base_model(*args, **{**inputs, "use_cache": False}).last_hidden_state
        hidden_ND = hidden_RTD[row_N, place_N]
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return _log_probs(self.get_output_embeddings(), hidden_ND, token_N)

    model.forward = types.MethodType(forward, model)


def log_probs(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """log p of each answer and its number of tokens, both (prompts, answers)."""
    given = {name: value for name, value in inputs.items() if name not in ("answer_N", "shape")}
    answer_N, (prompts, each) = inputs["answer_N"], inputs["shape"]
    log_prob_N = model(**given, use_cache=False)
    sums = log_prob_N.new_zeros(prompts * each).index_add(0, answer_N, log_prob_N)
    tokens = torch.bincount(answer_N, minlength=prompts * each).to(sums)
    return sums.view(prompts, each), tokens.view(prompts, each)


class _Scored:
    """Where every answer token is predicted, which it is, and whose."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.places: list[int] = []
        self.tokens: list[int] = []
        self.answers: list[int] = []

    def answer(self, name: int, row: int, places: Sequence[int], answer: Sequence[int]) -> None:
        self.rows += [row] * len(answer)
        self.places += places
        self.tokens += answer
        self.answers += [name] * len(answer)

    def inputs(self, asked: Sequence[Asked]) -> dict[str, Any]:
        columns = {"row_N": self.rows, "place_N": self.places, "token_N": self.tokens, "answer_N": self.answers}
        found = {name: torch.tensor(values) for name, values in columns.items()}
        return {**found, "shape": (len(asked), len(asked[0].answers))}


def _log_probs(head: Any, hidden_ND: Tensor, token_N: Tensor) -> Tensor:
    def of(hidden_ND: Tensor, token_N: Tensor) -> Tensor:
        return -cross_entropy(head(hidden_ND.float()), token_N, reduction="none")

    at_once = max(1, MOST_LOGITS // head.weight.shape[0])
    if len(token_N) <= at_once:
        return of(hidden_ND, token_N)
    parts = zip(torch.split(hidden_ND, at_once), torch.split(token_N, at_once), strict=True)
    return torch.cat([checkpoint(of, hidden, token, use_reentrant=False) for hidden, token in parts])
