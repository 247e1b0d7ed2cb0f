"""Answers as the engine asks for them: which prompts go together and which go first, and replies as plain data."""

from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers

from lifecycle.evaluation.decoding import Decoding, Draw, Prompt, decode, draws_of
from lifecycle.evaluation.drafts import Drafts, pilots_of
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.faster import network_of
from lifecycle.evaluation.kinds.suite import Reply
from lifecycle.evaluation.prefixes import in_batches

DIGITS = 4  # of a log-probability: what rounding and the number of threads do to a sum stays below this
PILOT_BATCH = 8  # small, so that several threads have one: all else waits for what pilots say
# Few prompts are shared out too: 128 in one batch kept one of two cores waiting, and answers took 1.9 times as long.
BATCHES, LEAST = 4, 32
OUT_OF_MEMORY = "out_of_memory"


class Generation:
    """Answers to prompts under one setting of `Decoding`. The others' guesses come from what pilots answered."""

    def __init__(
        self,
        model: Any,
        tokenizer: tokenizers.Tokenizer,
        decoding: Decoding,
        prompts: Sequence[Prompt],
        *,
        guesses: bool,
    ) -> None:
        self.model, self.tokenizer, self.decoding, self.prompts = model, tokenizer, decoding, prompts
        checked = guesses and network_of(model).checks_guesses
        self._pilots = pilots_of([prompt.ids for prompt in prompts]) if checked else []
        self._drafts: Drafts | None = None

    def pilots(self) -> list[list[int]]:
        """Numbers of the prompts that are asked first, in batches; none where guesses are of no use."""
        return [self._pilots[begin : begin + PILOT_BATCH] for begin in range(0, len(self._pilots), PILOT_BATCH)]

    def others(self, size: int) -> list[list[int]]:
        """Numbers of all other prompts in batches of at most `size`, so that several threads have one."""
        others = sorted(set(range(len(self.prompts))) - set(self._pilots))
        size = min(size, max(LEAST, -(-len(others) // BATCHES)))
        return [[others[n] for n in part] for part in in_batches([self.prompts[n].ids for n in others], size)]

    def learn(self, pilots: Iterable[tuple[int, Any]]) -> None:
        """Make guesses from what `results` were for these prompts from now on."""
        answers = [(self.prompts[number].ids, result["ids"]) for number, result in pilots if result is not None]
        self._drafts = Drafts(answers, stop_id=self.decoding.stop_id) if answers else None

    def results(self, prompts: Sequence[Prompt]) -> list[Any]:
        """For each prompt the fields of its replies, and the ids of the first answer with its stop token."""
        each = self.decoding.greedy + self.decoding.samples
        drawn = decode(self.model, prompts, self.decoding, self.tokenizer, self._drafts)
        return [
            {
                "ids": drawn[n].ids + [self.decoding.stop_id] * (drawn[n].stopped and not drawn[n].at_stop_text),
                "replies": [self._said(draw) for draw in drawn[n : n + each]],
            }
            for n in range(0, len(drawn), each)
        ]

    def replies(self, number: int, result: Any) -> list[Reply]:
        """The replies to a prompt; None is the result of one that did not fit in memory."""
        prompt = self.prompts[number]
        asked = digest(prompt.ids)
        if result is None:
            return [Reply(d.mode, asked, d.sample, fault=OUT_OF_MEMORY) for d in draws_of(prompt, self.decoding)]
        return [Reply(**fields, prompt_digest=asked) for fields in result["replies"]]

    def _said(self, draw: Draw) -> dict[str, Any]:
        # Special tokens in an answer stay visible: an answer with a role token in it is not terse.
        text = self.tokenizer.decode(draw.ids, skip_special_tokens=False)
        if draw.at_stop_text:
            text = text[: min(at for at in map(text.find, self.decoding.stop) if at >= 0)]
        return {
            "mode": draw.mode,
            "sample": draw.sample,
            "text": text,
            "log_probability": None if draw.fault else round(draw.log_probability, DIGITS),
            "tokens": draw.tokens,
            "stopped": draw.stopped,
            "fault": draw.fault,
        }
