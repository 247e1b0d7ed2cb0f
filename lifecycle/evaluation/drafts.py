"""Guesses of how an answer goes on, which the model checks in the pass that it makes anyway.

A guess is what followed the same tokens in the prompt (answers copy from it) or in what pilots answered. Pilots also
say how far each of these is to be believed, and what is said instead: a copied `","` where answers end with `"}`. A
guess counts only where it is the very token that is chosen there: answers are the same with and without, and most of
their tokens cost no step of their own.
Saxena 2023, "Prompt lookup decoding", https://github.com/apoorvumang/prompt-lookup-decoding; from earlier answers:
He et al. 2024, "REST", section 3, https://arxiv.org/abs/2311.08252
"""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

Ids = Sequence[int]

LONGEST = 3  # tokens that agree, at most, for what followed them to be a guess
FIRST, LATER = 8, 4  # tokens of a guess: when the prompt is read, and at each step after it
PILOTS, EACH = 16, 16  # pilots at most, and prompts for each of them at least
# A wrong guess costs the products of one token; a right one spares its row a look at all its keys and values. Below a
# quarter of right ones nothing is gained (d128 L4, rows of 60 tokens).
WORTH, TRIED = 0.25, 64


class Answered(NamedTuple):
    """A prompt and its answer, as texts of one character an id: Python searches those fast."""

    prompt: str
    answer: str


class Way:
    """One way of guessing the next token, and what pilots showed about it."""

    def __init__(self) -> None:
        self._behind: dict[str, list[int]] = {}
        self._ever = [0, 0]
        self._said: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def enter(self, last: str, suggested: str, said: str) -> None:
        """A pilot `said` this behind its `last` token."""
        for known in (self._ever, self._behind.setdefault(last, [0, 0])):
            known[0] += suggested == said
            known[1] += 1
        self._said[suggested][said] += 1

    def chance(self, last: str) -> float:
        """Of being right behind this token; where no pilot said it, of being right at all. Half where none said any."""
        right, times = self._ever
        ever = (right + 0.5) / (times + 1)
        right, times = self._behind.get(last, (0, 0))
        return (right + ever) / (times + 1)

    def instead(self, suggested: str) -> tuple[str, float]:
        """What pilots mostly said where this was suggested, and the chance that it comes again."""
        if suggested not in self._said:
            return "", 0.0
        ((token, times),) = self._said[suggested].most_common(1)
        return token, times / (self._said[suggested].total() + 1)


class Drafts:
    """What pilots answered: prompts of the same kind, asked first."""

    def __init__(self, pilots: Iterable[tuple[Ids, Ids]], *, stop_id: int) -> None:
        self._pilots = sorted(Answered(as_text(prompt), as_text(answer)) for prompt, answer in pilots)
        self._stop = chr(stop_id)
        self._next: dict[str, str] = {}
        self._ways = [Way() for _ in range(2 * LONGEST + 1)]
        self._chance, self._instead = cache(self._chance_of), cache(self._instead_of)
        offered = right = 0
        for number, (prompt, answer) in enumerate(self._pilots):  # each is guessed from those before it
            like = self.like(prompt, but=number)
            guess = as_text(self.after(prompt, "", like, FIRST))
            offered, right = offered + len(guess), right + _shared(guess, answer)
            self._learn(prompt, answer, like)
        self.worth = right >= WORTH * offered > 0

    def like(self, prompt: str, *, but: int | None = None) -> str:
        """The answer of the pilot whose prompt begins most like this one."""
        at = bisect(self._pilots, (prompt,))
        near = [n for n in range(max(0, at - 2), min(at + 2, len(self._pilots))) if n != but]
        return self._pilots[max(near, key=lambda n: _shared(self._pilots[n].prompt, prompt))].answer if near else ""

    def after(self, prompt: str, said: str, like: str, most: int) -> list[int]:
        """The tokens that may come behind a prompt and what was said; `like` is an answer that may be like this one."""
        guess, chance = "", 1.0
        while len(guess) < most:
            token, best = "", 0.0
            text = prompt + said + guess
            for way, suggested in self._suggested(prompt, said + guess, like):
                likely = self._chance(way, text[-1])
                if likely > best:
                    token, best = suggested, likely
                other, likely = self._instead(way, suggested)
                if likely > best:
                    token, best = other, likely
            chance *= best
            if chance < WORTH:
                break
            guess += token
            if token == self._stop:
                break
        return [ord(token) for token in guess]

    def _suggested(self, prompt: str, said: str, like: str) -> list[tuple[int, str]]:
        """The next token by every way of guessing that has one."""
        text, found = prompt + said, []
        for length in range(LONGEST, 0, -1):
            ending = text[-length:]
            at = text.rfind(ending, 0, -1)
            if at >= 0:
                found.append((length, text[at + length]))
            if ending in self._next:
                found.append((LONGEST + length, self._next[ending]))
        if len(said) < len(like) and like.startswith(said):
            found.append((0, like[len(said)]))
        return found

    def _chance_of(self, way: int, last: str) -> float:
        return self._ways[way].chance(last)

    def _instead_of(self, way: int, suggested: str) -> tuple[str, float]:
        return self._ways[way].instead(suggested)

    def _learn(self, prompt: str, answer: str, like: str) -> None:
        text, begin = prompt + answer, len(prompt)
        for at in range(begin, len(text)):
            for way, token in self._suggested(prompt, text[begin:at], like):
                self._ways[way].enter(text[at - 1], token, text[at])
        for at in range(begin, len(text)):
            self._next |= {text[max(0, at - n) : at]: text[at] for n in range(1, LONGEST + 1)}
        self._chance.cache_clear()
        self._instead.cache_clear()


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
