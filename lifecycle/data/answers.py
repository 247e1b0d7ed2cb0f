"""Rules for answers that nobody should learn to give. Each is asked of every assistant turn: all of them are learned.

An empty answer is no rule here: a turn without text makes its row unusable (`row_no_text`).
"""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.conversations import Message
from lifecycle.data.filters import Drop

# What a finished answer ends with, in many scripts; brackets, quotes, fences and marks of emphasis close one as well.
ENDS = frozenset(".!?:;…。！？؟।॥։።་၊។\"'”’»›)]}>*_`|~-")
SHOWN_WORDS = 8


class Truncated(BaseModel):
    """An answer that was cut off by its writer's limit: a long one whose last line does not end as a sentence does."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min_words: int = Field(
        150,
        ge=1,
        description="A shorter answer reached no limit: 256 tokens, the smallest in use, are about 190 English words. "
        "Set it to just below your writer's limit.",
    )

    def drop(self, answer: str, words: Sequence[str]) -> Drop | None:
        """Why the answer is dropped."""
        last = answer.rstrip().rpartition("\n")[2].strip()
        # Lists, tables and code may end in a bare word: their lines are short.
        if len(words) < self.min_words or len(last.split()) < SHOWN_WORDS or not _breaks_off(last):
            return None
        return Drop("answer_truncated", f"{len(words)} words, ends in {' '.join(words[-SHOWN_WORDS:])!r}")


class Looping(BaseModel):
    """An answer that says the same again and again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min_times: int = Field(
        4,
        ge=2,
        description="A phrase of two words or more that ends the answer so many times in a row. Holtzman et al. 2020, "
        "section 5.3, count 3 as a loop; a list of equal cells may hold 3.",
    )
    ngram_words: int = Field(4, ge=1, description="n of the next rule.")
    max_repeated_ngram_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="n-grams that are not new, of all: seq-rep-n of Welleck et al. 2020, eq. 10. They measure .006 in "
        "human text and .442 in greedy continuations.",
    )
    min_words: int = Field(50, ge=1, description="Of answers shorter than this only the first rule is asked.")

    def drop(self, words: Sequence[str]) -> Drop | None:
        """Why the answer is dropped."""
        for size in range(2, len(words) // self.min_times + 1):
            phrase = words[len(words) - size :]
            start = len(words) - size * self.min_times
            if words[start] == phrase[0] and list(words[start:]) == list(phrase) * self.min_times:
                shown = " ".join(phrase[:SHOWN_WORDS])
                return Drop("answer_looping", f"ends in {shown!r}, {self.min_times} times or more")
        if len(words) < max(self.min_words, self.ngram_words):
            return None
        ngrams = list(zip(*(words[start:] for start in range(self.ngram_words)), strict=False))
        share = 1 - len(set(ngrams)) / len(ngrams)
        if share > self.max_repeated_ngram_share:
            return Drop("answer_looping", f"{share:.2f} of its runs of {self.ngram_words} words are not new")
        return None


class AnswerRules(BaseModel):
    """The rules in the order in which they are asked; None switches one off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    truncated: Truncated | None = Field(Truncated(), description="It breaks off at a length limit.")
    looping: Looping | None = Field(Looping(), description="It repeats itself.")
    echo: bool = Field(True, description="Drop an answer that is the turn it answers, up to case and white space.")

    def drop(self, messages: Sequence[Message]) -> Drop | None:
        """The first rule that an answer of the conversation fails."""
        for before, answer in answers_of(messages):
            words = answer.split()
            if self.truncated is not None and (drop := self.truncated.drop(answer, words)):
                return drop
            if self.looping is not None and (drop := self.looping.drop(words)):
                return drop
            if self.echo and " ".join(words).casefold() == " ".join(before.split()).casefold():
                return Drop("answer_is_prompt", " ".join(words[:SHOWN_WORDS]))
        return None


def answers_of(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """What each assistant turn answers and what it says; turns that only call tools say nothing."""
    before = ""
    for message in messages:
        if message["role"] == "assistant" and message["content"]:
            yield before, message["content"]
        before = message["content"] or ""


def _breaks_off(line: str) -> bool:
    """Whether a line ends in a letter, a digit or a comma; a symbol or an emoji closes a sentence."""
    last = line[-1]
    return last not in ENDS and (last.isalnum() or last in ",，、،")
