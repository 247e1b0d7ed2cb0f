"""Guesses of how an answer goes on, which the model checks in the pass that it makes anyway.

A guess is what followed the same tokens in the prompt (answers copy from it), or what a pilot answered to the prompt
that begins most like this one. It counts only where it is the very token that is chosen there: answers are the same
with and without, and most of their tokens cost no step of their own.
Saxena 2023, "Prompt lookup decoding", https://github.com/apoorvumang/prompt-lookup-decoding; from earlier answers:
He et al. 2024, "REST", section 3, https://arxiv.org/abs/2311.08252
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Ids = Sequence[int]

LONGEST, SHORTEST = 3, 2  # tokens that must agree for what followed them to be a guess
FIRST, LATER = 6, 3  # tokens of a guess: when the prompt is read, and at each step after it
PILOTS, EACH = 16, 16  # pilots at most, and prompts for each of them at least
# A wrong guess costs the products of one token; a right one spares its row a look at all its keys and values. Below a
# quarter of right ones nothing is gained (d128 L4, rows of 60 tokens).
WORTH, TRIED = 0.25, 64


class Answered(NamedTuple):
    """A prompt and its answer, as texts of one character an id: Python searches those fast."""

    prompt: str
    answer: str


class Drafts:
    """What pilots answered: prompts of the same kind, asked first."""

    def __init__(self, pilots: Iterable[tuple[Ids, Ids]]) -> None:
        self._pilots = sorted(Answered(as_text(prompt), as_text(answer)) for prompt, answer in pilots)
        self._next: dict[str, str] = {}
        for pilot in self._pilots:
            text, begin = "".join(pilot), len(pilot.prompt)
            for at in range(begin, len(text)):
                self._next |= {text[max(0, at - n) : at]: text[at] for n in range(SHORTEST, LONGEST + 1)}
        self.worth = self._worth()

    def like(self, prompt: str, *, but: int | None = None) -> str:
        """The answer of the pilot whose prompt begins most like this one."""
        at = bisect(self._pilots, (prompt,))
        near = [n for n in range(max(0, at - 2), min(at + 2, len(self._pilots))) if n != but]
        return self._pilots[max(near, key=lambda n: _shared(self._pilots[n].prompt, prompt))].answer if near else ""

    def after(self, prompt: str, said: str, like: str, most: int) -> list[int]:
        """The tokens that may come behind a prompt and what was said; `like` is an answer that may be like this one."""
        guess = ""
        while len(guess) < most:
            following = self._following(prompt, said + guess, like)
            if not following:
                break
            guess += following
        return [ord(token) for token in guess]

    def _following(self, prompt: str, said: str, like: str) -> str:
        text = prompt + said
        for length in range(LONGEST, SHORTEST - 1, -1):
            at = text.rfind(text[-length:], 0, -1)
            if at >= 0:
                return text[at + length]
        if len(said) < len(like) and like.startswith(said):
            return like[len(said)]
        endings = (text[-length:] for length in range(LONGEST, SHORTEST - 1, -1))
        return next((self._next[ending] for ending in endings if ending in self._next), "")

    def _worth(self) -> bool:
        """Whether enough of the first guesses about each pilot, made from the others, are right."""
        offered = right = 0
        for number, (prompt, answer) in enumerate(self._pilots):
            guess = as_text(self.after(prompt, "", self.like(prompt, but=number), FIRST))
            offered, right = offered + len(guess), right + _shared(guess, answer)
        return right >= WORTH * offered > 0


class Tally:
    """How many of a batch's guesses were right: where too few are, no more are made."""

    def __init__(self) -> None:
        self.offered = self.right = 0

    @property
    def worth(self) -> bool:
        return self.offered < TRIED or self.right >= WORTH * self.offered


def as_text(ids: Ids) -> str:
    """One character an id."""
    return "".join(map(chr, ids))


def _shared(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def pilots_of(prompts: Sequence[Ids]) -> list[int]:
    """Numbers of the prompts that are asked first: so many, evenly spread over how prompts begin, or none of few."""
    count = min(PILOTS, len(prompts) // EACH)
    order = sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]))
    return [order[n * len(order) // count] for n in range(count)]
