"""Answers to many prompts at once: each prompt is read once and answered as often as asked, greedily and by sampling.

Prompts are sorted by length, padded on the left and decoded with a key-value cache; a row that has ended leaves the
batch. What a row answers does not depend on the rows beside it.

# B rows, T tokens, V vocabulary
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import tokenizers
import torch
from torch import Tensor

from lifecycle.data.order import hash64
from lifecycle.evaluation.items import Mode
from lifecycle.evaluation.llama import new_cache

# A cache that is cut down is copied: with fewer ended rows than this the copy costs more than it saves (measured on
# d128 L4: a quarter and a third are equally fast, 8 % faster than never and 5 % faster than at once).
ENDED_SHARE = 0.25
NOT_FINITE = "logits_not_finite"

Name = tuple[str, int] | tuple[str, int, int]
"""Item and position in its answer; then the number of the sample, from the second on."""


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
    greedy: bool = True
    samples: int = 1
    stop: tuple[str, ...] = ()
    """Texts that end an answer besides the stop token."""


@dataclass
class Draw:
    """One answer to one prompt; `ids` end before the stop token."""

    prompt: Prompt
    mode: Mode
    sample: int = 0
    ids: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    stopped: bool = False
    at_stop_text: bool = False
    fault: str | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids) + (self.stopped and not self.at_stop_text)


def draws_of(prompt: Prompt, decoding: Decoding) -> list[Draw]:
    """The answers to draw, still empty."""
    sampled = [Draw(prompt, "sampled", sample) for sample in range(decoding.samples)]
    return [Draw(prompt, "greedy"), *sampled] if decoding.greedy else sampled


@torch.inference_mode()
def decode(
    model: Any, prompts: Sequence[Prompt], decoding: Decoding, tokenizer: tokenizers.Tokenizer | None = None
) -> list[Draw]:
    """Every answer to these prompts, prompt by prompt. A tokenizer is needed only where `decoding.stop` has texts."""
    ids_BT, mask_BT = _left_padded(prompts, decoding.pad_id, model.device)
    last_B1 = mask_BT.sum(1, keepdim=True) - 1  # the position of a row's newest token, padding not counted
    cache = new_cache(model)
    step = _stepper(model, cache)
    logits_BV = step(ids_BT, mask_BT, (mask_BT.cumsum(1) - 1).clamp(min=0))
    everything = [draw for prompt in prompts for draw in draws_of(prompt, decoding)]
    each = torch.arange(len(prompts), device=model.device).repeat_interleave(len(everything) // len(prompts))
    cache.batch_select_indices(each)
    logits_BV, mask_BT, last_B1 = logits_BV[each], mask_BT[each], last_B1[each]
    noise = Noise(logits_BV.shape[-1], decoding.seed, model.device)
    rows, open_rows = everything, list(range(len(everything)))
    while True:
        next_B = _choose(logits_BV, rows, decoding, noise)
        _record(rows, open_rows, logits_BV, next_B, decoding)
        if decoding.stop and tokenizer is not None:
            _stop_at_texts([rows[row] for row in open_rows], decoding.stop, tokenizer)
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


def _stepper(model: Any, cache: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
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


def _choose(logits_BV: Tensor, rows: Sequence[Draw], decoding: Decoding, noise: "Noise") -> Tensor:
    """The next token of every row, (B,)."""
    next_B = logits_BV.argmax(-1)
    sampled = [row for row, draw in enumerate(rows) if draw.mode == "sampled"]
    if sampled:
        scores_BV = logits_BV[sampled] / decoding.temperature + noise.gumbel([_name(rows[row]) for row in sampled])
        next_B[sampled] = scores_BV.argmax(-1)
    return next_B


def _name(draw: Draw) -> Name:
    """What names a draw's next random numbers. The first sample has no number: it was once the only one."""
    place = (draw.prompt.id, len(draw.ids))
    return place if draw.sample == 0 else (*place, draw.sample)


def _record(
    rows: Sequence[Draw], open_rows: Sequence[int], logits_BV: Tensor, next_B: Tensor, decoding: Decoding
) -> None:
    """Write the chosen tokens and their log-probabilities to the answers that have not ended."""
    nats_B = torch.logsumexp(logits_BV, -1) - logits_BV.gather(-1, next_B[:, None])[:, 0]
    nats, tokens = nats_B.double().tolist(), next_B.tolist()
    finite = torch.isfinite(logits_BV).all(-1).tolist()
    for row in open_rows:
        draw = rows[row]
        if not finite[row]:
            draw.fault = NOT_FINITE
            continue
        draw.log_probability -= nats[row]
        if tokens[row] == decoding.stop_id:
            draw.stopped = True
        else:
            draw.ids.append(tokens[row])


def _stop_at_texts(draws: Sequence[Draw], stop: Sequence[str], tokenizer: tokenizers.Tokenizer) -> None:
    """End the answers that now hold one of these texts. A token is at least a byte: no longer tail can hold it."""
    longest = max(len(text.encode()) for text in stop)
    for draw in draws:
        tail = tokenizer.decode(draw.ids[-longest:], skip_special_tokens=False)
        if not draw.stopped and any(text in tail for text in stop):
            draw.stopped = draw.at_stop_text = True


def _ended(draw: Draw, decoding: Decoding) -> bool:
    return draw.stopped or draw.fault is not None or len(draw.ids) >= decoding.max_new_tokens


class Noise:
    """Gumbel noise for every token, named by (seed, item, position): argmax of logits plus noise is a sample.

    Named, not drawn in turn: an item's sample is the same in any batch, and two models that hardly differ mostly give
    the same sample, which is what makes a paired comparison of sampled answers sharp.
    Gumbel 1954; the use for sampling: Maddison et al. 2014, "A* Sampling", eq. 2, https://arxiv.org/abs/1411.0030
    """

    def __init__(self, vocabulary: int, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.tokens_V = _mix32(torch.arange(vocabulary, dtype=torch.int32, device=device))

    def gumbel(self, names: Sequence[Name]) -> Tensor:
        """(B, V) for these items at these positions of their answers."""
        keys = [(hash64("answer", self.seed, *name) & 0xFFFFFFFF) - 2**31 for name in names]
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
