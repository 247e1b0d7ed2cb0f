"""Answers to many prompts at once: each prompt is read once and answered twice, greedily and by sampling.

Prompts are sorted by length, padded on the left and decoded with a key-value cache; a row that has ended leaves the
batch. What a row answers does not depend on the rows beside it.

# B rows, T tokens, V vocabulary
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lifecycle.data.order import hash64
from lifecycle.evaluation.items import Mode

MODES: tuple[Mode, ...] = ("greedy", "sampled")
# A cache that is cut down is copied: with fewer ended rows than this the copy costs more than it saves (measured on
# d128 L4: a quarter and a third are equally fast, 8 % faster than never and 5 % faster than at once).
ENDED_SHARE = 0.25
NOT_FINITE = "logits_not_finite"


class Prompt(NamedTuple):
    """One question as ids; its id names its random numbers."""

    id: str
    ids: list[int]


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    stop_id: int
    pad_id: int
    max_new_tokens: int
    temperature: float
    seed: int


@dataclass
class Reply:
    """What came back for one prompt in one mode; `ids` end before the stop token."""

    prompt: Prompt
    mode: Mode
    ids: list[int] = field(default_factory=list)
    bits: float = 0.0
    stopped: bool = False
    fault: str | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids) + self.stopped


def replies(
    model: Any, prompts: Sequence[Prompt], decoding: Decoding, *, batch: int, pool: Executor
) -> Iterator[list[Reply]]:
    """Both replies to every prompt, batch by batch, the longest prompts first."""
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.id))
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    return pool.map(lambda some: _decode(model, some, decoding), batches)


@torch.inference_mode()
def _decode(model: Any, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply]:
    ids_BT, mask_BT = _left_padded(prompts, decoding.pad_id, model.device)
    last_B1 = mask_BT.sum(1, keepdim=True) - 1  # the position of a row's newest token, padding not counted
    cache = DynamicCache(config=model.config)
    step = _stepper(model, cache)
    logits_BV = step(ids_BT, mask_BT, (mask_BT.cumsum(1) - 1).clamp(min=0))
    everything = [Reply(prompt, mode) for prompt in prompts for mode in MODES]
    each = torch.arange(len(prompts), device=model.device).repeat_interleave(len(MODES))
    cache.batch_select_indices(each)
    logits_BV, mask_BT, last_B1 = logits_BV[each], mask_BT[each], last_B1[each]
    noise = Noise(logits_BV.shape[-1], decoding.seed, model.device)
    rows, open_rows = everything, list(range(len(everything)))
    while True:
        next_B = _choose(logits_BV, rows, decoding, noise)
        _record(rows, open_rows, logits_BV, next_B, decoding)
        open_rows = [row for row in open_rows if not _ended(rows[row], decoding)]
        if not open_rows:
            return everything
        if len(open_rows) <= (1 - ENDED_SHARE) * len(rows):
            kept = torch.tensor(open_rows, device=model.device)
            cache.batch_select_indices(kept)
            next_B, mask_BT, last_B1 = next_B[kept], mask_BT[kept], last_B1[kept]
            rows = [rows[row] for row in open_rows]
            open_rows = list(range(len(rows)))
        last_B1 = last_B1 + 1
        mask_BT = torch.cat([mask_BT, torch.ones_like(last_B1)], dim=1)
        logits_BV = step(next_B[:, None], mask_BT, last_B1)


def _stepper(model: Any, cache: DynamicCache) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A function that feeds tokens to the model and returns the logits after the last one, in fp32."""

    def step(ids_BT: Tensor, mask_BT: Tensor, position_BT: Tensor) -> Tensor:
        # use_cache is said, not left to the config: False there makes generation 19 times slower, without a word.
        found = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=position_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1].float()  # type: ignore[no-any-return]

    return step


def _left_padded(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (B, T): the last token of every prompt in the last column."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts]
    mask = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _choose(logits_BV: Tensor, rows: Sequence[Reply], decoding: Decoding, noise: "Noise") -> Tensor:
    """The next token of every row, (B,)."""
    next_B = logits_BV.argmax(-1)
    sampled = [row for row, reply in enumerate(rows) if reply.mode == "sampled"]
    if sampled:
        names = [(rows[row].prompt.id, len(rows[row].ids)) for row in sampled]
        scores_BV = logits_BV[sampled] / decoding.temperature + noise.gumbel(names)
        next_B[sampled] = scores_BV.argmax(-1)
    return next_B


def _record(
    rows: Sequence[Reply], open_rows: Sequence[int], logits_BV: Tensor, next_B: Tensor, decoding: Decoding
) -> None:
    """Write the chosen tokens and their bits to the replies that have not ended."""
    nats_B = torch.logsumexp(logits_BV, -1) - logits_BV.gather(-1, next_B[:, None])[:, 0]
    bits, tokens = (nats_B.double() / torch.log(torch.tensor(2.0).double())).tolist(), next_B.tolist()
    finite = torch.isfinite(logits_BV).all(-1).tolist()
    for row in open_rows:
        reply = rows[row]
        if not finite[row]:
            reply.fault = NOT_FINITE
            continue
        reply.bits += bits[row]
        if tokens[row] == decoding.stop_id:
            reply.stopped = True
        else:
            reply.ids.append(tokens[row])


def _ended(reply: Reply, decoding: Decoding) -> bool:
    return reply.stopped or reply.fault is not None or len(reply.ids) >= decoding.max_new_tokens


class Noise:
    """Gumbel noise for every token, named by (seed, item, position): argmax of logits plus noise is a sample.

    Named, not drawn in turn: an item's sample is the same in any batch, and two models that hardly differ mostly give
    the same sample, which is what makes a paired comparison of sampled answers sharp.
    Gumbel 1954; the use for sampling: Maddison et al. 2014, "A* Sampling", eq. 2, https://arxiv.org/abs/1411.0030
    """

    def __init__(self, vocabulary: int, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.tokens_V = _mix32(torch.arange(vocabulary, dtype=torch.int32, device=device))

    def gumbel(self, names: Sequence[tuple[str, int]]) -> Tensor:
        """(B, V) for these items at these positions of their answers."""
        keys = [(hash64("answer", self.seed, item, position) & 0xFFFFFFFF) - 2**31 for item, position in names]
        keys_B1 = torch.tensor(keys, dtype=torch.int32, device=self.device)[:, None]
        bits_BV = (_mix32(self.tokens_V ^ keys_B1) >> 8) & 0xFFFFFF
        # Uniform in (0, 1), away from 0. Where it rounds to 1 the noise is -inf: that token is not drawn.
        uniform_BV = (bits_BV.float() + 0.5) * 2.0**-24
        return -torch.log(-torch.log1p(-uniform_BV))


def _mix32(values: Tensor) -> Tensor:
    """Each int32 scrambled into 32 well mixed bits (lowbias32, C. Wellons 2018, "Prospecting for Hash Functions")."""
    values = (values ^ ((values >> 16) & 0xFFFF)) * 0x7FEB352D
    values = (values ^ ((values >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return values ^ ((values >> 16) & 0xFFFF)
