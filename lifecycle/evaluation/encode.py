"""Asks as ids: the chat template for turns, plain text behind BOS for text. Light: stages check here what fits."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from lifecycle.chat.render import Renderer, specials_as_text
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Prompt


class Encoder:
    """Turns asks into the ids of one checkpoint's tokenizer. What looks like a special token in a text is text."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer, self.tokenizer, self.protocol = renderer, renderer.tokenizer, renderer.protocol
        self._last: tuple[Prompt, tuple[list[int], str]] | None = None

    def prompt(self, prompt: Prompt) -> list[int]:
        """The ids before an answer. A last turn of the assistant is an answer that is begun, and goes on."""
        before, begun = self._begun(prompt)
        return [*before, *self.text(begun)]

    def pair(self, ask: Likelihood) -> tuple[list[int], list[int]]:
        """Prompt and continuation.

        After turns the continuation is encoded on its own, as answers are in training. After plain text, or an answer
        that is begun, both are encoded together, white space at the prompt's end counted to the continuation, as
        lm-evaluation-harness does (`TemplateLM._encode_pair`): a word is then split as it is where it occurs.
        """
        end = [self.protocol.stop_id] if ask.ends else []
        before, begun = self._begun(ask.prompt)
        whole, context = self.text(begun + ask.continuation), self.text(begun.rstrip())
        return [*before, *context], [*whole[len(context) :], *end]

    def _begun(self, prompt: Prompt) -> tuple[list[int], str]:
        """The ids of a prompt's turns, and the text behind them that an answer goes on with."""
        if isinstance(prompt, str):
            return [self.protocol.bos_id], prompt
        if self._last is not None and self._last[0] == prompt:  # choices come one after the other
            return self._last[1]
        begun = prompt[-1]["content"] if prompt[-1]["role"] == "assistant" else ""
        turns = prompt[:-1] if prompt[-1]["role"] == "assistant" else prompt
        found = self.renderer.render(turns, generation_prompt=True).ids, begun
        self._last = (prompt, found)
        return found

    def text(self, text: str) -> list[int]:
        with specials_as_text(self.tokenizer):
            return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def ask(self, ask: Ask) -> tuple[list[int], list[int]]:
        """Prompt and continuation of an ask; the continuation of a question to be answered is empty."""
        match ask:
            case Generate():
                return self.prompt(ask.prompt), []
            case Likelihood():
                return self.pair(ask)
        return [], []

    def tokens(self, ask: Ask, *, max_new_tokens: int) -> int:
        """Positions this ask takes in the model's window."""
        prompt, continuation = self.ask(ask)
        new = (ask.max_new_tokens or max_new_tokens) if isinstance(ask, Generate) else len(continuation)
        return len(prompt) + new


def digest(ids: Sequence[int]) -> str:
    """Sixteen hex digits that name these ids."""
    return sha256(np.array(ids, "<u4").tobytes()).hexdigest()[:16]
