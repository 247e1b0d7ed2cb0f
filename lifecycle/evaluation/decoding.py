"""Answers to many prompts at once: each prompt is read once and answered as often as asked, greedily and by sampling.

Rows go on behind a key-value cache, and one that has ended leaves the batch. What a row answers does not depend on the
rows beside it, nor on the guesses (`drafts`) that are checked several tokens at a time.

# B rows, N tokens, V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

import tokenizers
import torch
from torch import Tensor

from lifecycle.evaluation.drafts import FIRST, LATER, Drafts, Tally, as_text
from lifecycle.evaluation.faster import network_of
from lifecycle.evaluation.items import Mode
from lifecycle.evaluation.noise import Name, Noise
from lifecycle.evaluation.scoring import are_finite, first_choice, nats_of

NOT_FINITE = "logits_not_finite"


class Prompt(NamedTuple):
    """One question as ids; its id names its random numbers."""

    id: str
    ids: list[int]


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    stop_id: int
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
    nats: list[float] = field(default_factory=list)
    """-ln p of each token, the stop token counted."""
    stopped: bool = False
    at_stop_text: bool = False
    fault: str | None = None

    @property
    def log_probability(self) -> float:
        return -sum(self.nats)

    @property
    def tokens(self) -> int:
        return len(self.ids) + (self.stopped and not self.at_stop_text)


def draws_of(prompt: Prompt, decoding: Decoding) -> list[Draw]:
    """The answers to draw, still empty."""
    sampled = [Draw(prompt, "sampled", sample) for sample in range(decoding.samples)]
    return [Draw(prompt, "greedy"), *sampled] if decoding.greedy else sampled


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    tokenizer: tokenizers.Tokenizer | None = None,
    drafts: Drafts | None = None,
) -> list[Draw]:
    """Every answer to these prompts, prompt by prompt. A tokenizer is needed only where `decoding.stop` has texts.

    With `drafts` several tokens are checked at a time; no answer changes.
    """
    network = network_of(model)
    if drafts is not None and not (network.checks_guesses and drafts.worth):
        drafts = None
    answers = _Answers(network, decoding, tokenizer, drafts)
    rows = [answers.row(prompt) for prompt in prompts]
    logits_NV, past = network.read([prompt.ids for prompt in prompts], [row.guess for row in rows])
    everything = [draw for prompt in prompts for draw in draws_of(prompt, decoding)]
    times = len(everything) // len(prompts)
    if times > 1:
        past.select(torch.arange(len(prompts), device=network.device).repeat_interleave(times))
        ends = list(accumulate(len(row.guess) + 1 for row in rows))
        each = [n for row, end in zip(rows, ends, strict=True) for n in [*range(end - len(row.guess) - 1, end)] * times]
        logits_NV = logits_NV[each]
    answers.draw([replace(rows[n // times], draw=draw) for n, draw in enumerate(everything)], logits_NV, past)
    return everything


@dataclass
class _Row:
    """An answer that is being drawn; its prompt, what was said and a like answer as texts of ids; and the guess."""

    draw: Draw
    prompt: str
    like: str
    guess: list[int]
    said: str = ""


class _Answers:
    """Draws answers, a step for all rows at a time: choose behind what was read, then read what was chosen."""

    def __init__(
        self, network: Any, decoding: Decoding, tokenizer: tokenizers.Tokenizer | None, drafts: Drafts | None
    ) -> None:
        self.network, self.decoding, self.tokenizer, self.drafts = network, decoding, tokenizer, drafts
        self.noise = Noise(network.config.vocab_size, decoding.seed, network.device)
        self.tally = Tally()

    def row(self, prompt: Prompt) -> _Row:
        """A row of which nothing was said yet, with a guess of how its answer begins."""
        text = as_text(prompt.ids)
        row = _Row(Draw(prompt, "greedy"), text, self.drafts.like(text) if self.drafts else "", [])
        row.guess = self._guess(row, FIRST)
        return row

    def draw(self, rows: list[_Row], logits_NV: Tensor, past: Any) -> None:
        """Fill the rows' draws; `past` holds their prompts and guesses, the logits are those behind both."""
        while True:
            right = self._take(rows, logits_NV)
            if any(right):
                past.advance(right)
            open_rows = [number for number, row in enumerate(rows) if not self._ended(row.draw)]
            if not open_rows:
                return
            rows = [rows[number] for number in past.keep(open_rows)]
            for row in rows:
                row.guess = self._guess(row, LATER)
            logits_NV = self.network.step(past, [[ord(row.said[-1]), *row.guess] for row in rows])

    def _take(self, rows: Sequence[_Row], logits_NV: Tensor) -> list[int]:
        """Write what is chosen to the answers that have not ended; for each row, how many of its guesses were right."""
        next_N = self._choose(rows, logits_NV)
        tokens, nats = next_N.tolist(), nats_of(logits_NV, next_N).double().tolist()
        finite = are_finite(logits_NV).tolist()
        right, at = [], 0
        for row in rows:
            taken, offered = 0, len(row.guess)
            for place in range(at, at + offered + 1):
                if self._ended(row.draw):
                    break
                self._write(row, tokens[place], nats[place], finite[place])
                if place - at == offered or tokens[place] != row.guess[place - at]:
                    break
                taken += 1
            right.append(taken)
            at += offered + 1
            self.tally.offered, self.tally.right = self.tally.offered + offered, self.tally.right + taken
        return right

    def _choose(self, rows: Sequence[_Row], logits_NV: Tensor) -> Tensor:
        """The next token behind everything that was read, (N,)."""
        next_N = first_choice(logits_NV)
        names: dict[int, Name] = {}
        at = 0
        for row in rows:
            if row.draw.mode == "sampled":
                names |= {at + more: _name(row.draw, more) for more in range(len(row.guess) + 1)}
            at += len(row.guess) + 1
        if names:
            sampled = list(names)
            noise_NV = self.noise.gumbel(list(names.values()))
            next_N[sampled] = first_choice(logits_NV[sampled] / self.decoding.temperature + noise_NV)
        return next_N

    def _write(self, row: _Row, token: int, nats: float, finite: bool) -> None:
        draw = row.draw
        if not finite:
            draw.fault = NOT_FINITE
            return
        draw.nats.append(nats)
        row.said += chr(token)
        if token == self.decoding.stop_id:
            draw.stopped = True
        else:
            draw.ids.append(token)
            if self.decoding.stop and self.tokenizer is not None:
                draw.stopped = draw.at_stop_text = _holds(draw.ids, self.decoding.stop, self.tokenizer)

    def _ended(self, draw: Draw) -> bool:
        return draw.stopped or draw.fault is not None or len(draw.ids) >= self.decoding.max_new_tokens

    def _guess(self, row: _Row, most: int) -> list[int]:
        if self.drafts is None or not self.tally.worth or self._ended(row.draw):
            return []
        room = self.decoding.max_new_tokens - len(row.draw.ids) - 1
        return self.drafts.after(row.prompt, row.said, row.like, min(most, room))


def _name(draw: Draw, more: int) -> Name:
    """What names a draw's random numbers so many tokens on. The first sample, once the only one, has no number."""
    place = (draw.prompt.id, len(draw.ids) + more)
    return place if draw.sample == 0 else (*place, draw.sample)


def _holds(ids: Sequence[int], stop: Sequence[str], tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether one of these texts is in an answer's end. A token is at least a byte: no longer tail can hold it."""
    longest = max(len(text.encode()) for text in stop)
    tail = tokenizer.decode(list(ids[-longest:]), skip_special_tokens=False)
    return any(text in tail for text in stop)
