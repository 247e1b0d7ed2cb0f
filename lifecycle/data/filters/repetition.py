"""The repetition rules of Gopher: Rae et al. 2021, appendix A.1.1, table A1, https://arxiv.org/abs/2112.11446.

Its shares of characters in duplicated 5- to 10-grams are not here yet.
"""

import re
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.verdict import Drop

PARAGRAPH_END = re.compile(r"\n{2,}")
LINE_END = re.compile(r"\n+")


class RepetitionRules(BaseModel):
    """Defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_duplicate_line_share: float = Field(0.3, ge=0, le=1, description="Lines that occurred before, of all lines.")
    max_duplicate_line_character_share: float = Field(0.2, ge=0, le=1)
    max_duplicate_paragraph_share: float = Field(0.3, ge=0, le=1)
    max_duplicate_paragraph_character_share: float = Field(0.2, ge=0, le=1)
    max_top_ngram_character_share: dict[int, float] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16}, description="Characters within the commonest n-gram of words, of all characters."
    )

    def drop(self, text: str) -> Drop | None:
        stripped = text.strip()
        lines, paragraphs = LINE_END.split(stripped), PARAGRAPH_END.split(stripped)
        for name, parts, max_share, max_characters in (
            ("lines", lines, self.max_duplicate_line_share, self.max_duplicate_line_character_share),
            (
                "paragraphs",
                paragraphs,
                self.max_duplicate_paragraph_share,
                self.max_duplicate_paragraph_character_share,
            ),
        ):
            count, characters = duplicates(parts)
            if count > max_share * len(parts) or characters > max_characters * len(text):
                return Drop(f"repetition_{name}", f"{count} of {len(parts)} {name} repeat an earlier one")
        words = text.split()
        for n, max_share in self.max_top_ngram_character_share.items():
            characters, ngram = top_ngram_characters(words, n)
            if characters > max_share * len(text):
                return Drop(f"repetition_top_{n}gram", f"{ngram!r} covers {characters / len(text):.2f}")
        return None


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts occurred before, and their characters."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        seen.add(part)
    return count, characters


def top_ngram_characters(words: Sequence[str], n: int) -> tuple[int, str]:
    """Characters in all occurrences of the commonest n-gram, the first of several as common; and the n-gram."""
    ngrams = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    if not ngrams:
        return 0, ""
    ngram, times = max(ngrams.items(), key=lambda item: item[1])
    return (len(" ".join(ngram)) * times, " ".join(ngram)) if times > 1 else (0, "")
