"""Answers that a policy gives, drawn behind a key-value cache, and the tensors in which it learns from them.

# B answers, S tokens of prompt and answer, T tokens of an answer
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lifecycle.chat.examples import TOO_LONG, most_rows_fit
from lifecycle.chat.structure import Unrenderable
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import WorkerFailed
from lifecycle.evaluation.decoding import Decoding, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.workers.posttrain import Spoken, load_model

Row = Mapping[str, Any]


class Asked(NamedTuple):
    """A prompt, rendered up to where the answer begins, with the comparison it is from."""

    ids: list[int]
    row: Row


@dataclass
class Answer:
    """One answer as plain numbers, so that ranks can hand it on. Lists have an entry a token, the stop token too."""

    prompt: list[int]
    ids: list[int]
    stopped: bool
    sampled: list[float]
    """ln p under the policy that drew it."""
    reference: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    score: float = 0.0

    @property
    def whole(self) -> list[int]:
        return self.prompt + self.ids


class Batch(NamedTuple):
    """Answers as one forward reads them: rows filled behind their ends, and where each answer's token is foretold."""

    ids: Tensor
    """(B, S)"""
    seen: Tensor
    """(B, S): 1 where a row has a token."""
    at: Tensor
    """(B, T): the place of the token before each of the answer's."""
    tokens: Tensor
    """(B, T)"""
    mask: Tensor
    """(B, T): 1 where an answer has a token."""


def read_prompts(file: Path, spoken: Spoken, *, room: int, max_dropped_share: float) -> tuple[list[Asked], int]:
    """The distinct prompts of a file of comparisons that leave room for an answer, and how many do not."""
    found: dict[tuple[int, ...], Asked] = {}
    dropped = 0
    for row in load_rows(file):
        try:
            ids = spoken.renderer.render(row["prompt"], generation_prompt=True).ids
        except Unrenderable:
            dropped += 1
            continue
        if len(ids) > room:
            dropped += 1
            continue
        spoken.same_as_template(row["prompt"], ids, row=str(row["id"]), generation_prompt=True)
        found.setdefault(tuple(ids), Asked(ids, row))
    most_rows_fit({TOO_LONG: dropped}, len(found), max_dropped_share=max_dropped_share, max_seq_len=room)
    return list(found.values()), dropped


class Actor:
    """A copy of the policy that answers: the evaluation's network, adapters merged. It is given the weights anew.

    A copy, because the fast network joins matrices that an optimizer, an adapter or DeepSpeed needs apart.
    """

    def __init__(self, folder: Path, decoding: Decoding) -> None:
        self.plain = load_model(folder).to(device()).eval()
        self.network, self.decoding = faster(self.plain), decoding

    @torch.no_grad()
    def become(self, policy: Any) -> None:
        """Take the weights of a policy as they are now."""
        source = policy.get_base_model() if isinstance(policy, peft.PeftModel) else policy
        weights = dict(self.plain.named_parameters())
        for name, weight in source.named_parameters():
            if "lora_" not in name:
                weights[name.replace(".base_layer", "")].copy_(weight)
        for name, module in source.named_modules():
            if hasattr(module, "get_delta_weight"):
                weights[f"{name}.weight"].add_(module.get_delta_weight("default"))

    def answers(self, prompts: Iterable[tuple[int, Asked]], *, step: int) -> list[Answer]:
        """Its answers to numbered prompts, in their order. What it says depends on seed, step and number alone."""
        asked = [Prompt(f"{step}/{number}", prompt.ids) for number, prompt in prompts]
        draws = decode(self.network, asked, self.decoding)
        if fault := next((draw.fault for draw in draws if draw.fault), None):
            raise WorkerFailed(f"expected finite logits when sampling in step {step}, found {fault}. Lower the rate.")
        stop = [self.decoding.stop_id]
        return [
            Answer(
                prompt=draw.prompt.ids,
                ids=draw.ids + stop * draw.stopped,
                stopped=draw.stopped,
                sampled=[-nats for nats in draw.nats],
            )
            for draw in draws
        ]


def device() -> torch.device:
    """Where this rank computes."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def as_batch(answers: Sequence[Answer]) -> Batch:
    """The tensors of some answers."""
    rows = [torch.tensor(answer.whole) for answer in answers]
    tokens = [torch.tensor(answer.ids) for answer in answers]
    ids_BS, token_BT = pad_sequence(rows, batch_first=True), pad_sequence(tokens, batch_first=True)
    length_B1 = torch.tensor([[len(row)] for row in rows])
    size_B1 = torch.tensor([[len(some)] for some in tokens])
    place_T = torch.arange(token_BT.shape[1])
    mask_BT = (place_T < size_B1).float()
    at_BT = (length_B1 - size_B1 - 1 + place_T).clamp(max=ids_BS.shape[1] - 1)
    seen_BS = (torch.arange(ids_BS.shape[1]) < length_B1).long()
    return Batch(*(some.to(device()) for some in (ids_BS, seen_BS, at_BT, token_BT, mask_BT)))


def filled(lists: Iterable[Sequence[float]], like_BT: Tensor) -> Tensor:
    """A number for each token, 0 behind an answer's end, (B, T)."""
    made_BT = pad_sequence([torch.tensor(some) for some in lists], batch_first=True)
    return made_BT.to(like_BT)


def unfilled(value_BT: Tensor, mask_BT: Tensor) -> list[list[float]]:
    """The numbers of each answer's tokens."""
    rows = value_BT.tolist()
    return [row[:size] for row, size in zip(rows, mask_BT.sum(1).long().tolist(), strict=True)]
