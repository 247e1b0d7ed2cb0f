"""The repetition rules of Gopher: Rae et al. 2021, appendix A1.1, table A1, https://arxiv.org/abs/2112.11446."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from lifecycle.data.filters.verdict import Count, Family, at_least_one

PARAGRAPH_END = re.compile(r"\n{2,}")
LINE_END = re.compile(r"\n+")
TABLE_A1: dict[Literal[5, 6, 7, 8, 9, 10], float] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
TOP_SIZES: tuple[Literal[2, 3, 4], ...] = (2, 3, 4)
DUPLICATE_SIZES: tuple[Literal[5, 6, 7, 8, 9, 10], ...] = (5, 6, 7, 8, 9, 10)


class RepetitionCounts(NamedTuple):
    """What the rules look at. `top_*_times` and `top_*`: how often the commonest n-gram occurs, and its characters;
    `repeated_*`: characters, without spaces, of n-grams that occurred before and do not overlap the last such."""

    characters: Count
    lines: Count
    repeated_lines: Count
    repeated_line_characters: Count
    paragraphs: Count
    repeated_paragraphs: Count
    repeated_paragraph_characters: Count
    top_2_times: Count
    top_3_times: Count
    top_4_times: Count
    top_2: Count
    top_3: Count
    top_4: Count
    repeated_5: Count
    repeated_6: Count
    repeated_7: Count
    repeated_8: Count
    repeated_9: Count
    repeated_10: Count


class RepetitionRules(Family):
    """Defaults are the paper's, but for the last rule, which is off: it drops reference text that repeats by nature
    (40 of the 6,841 documents that ship, all of the SQLite manual's syntax and test listings)."""

    counts: ClassVar[type[RepetitionCounts]] = RepetitionCounts
    max_duplicate_line_share: float = Field(0.3, ge=0, le=1, description="Lines that occurred before, of all lines.")
    max_duplicate_line_character_share: float = Field(0.2, ge=0, le=1, description="Their characters, of all.")
    max_duplicate_paragraph_share: float = Field(0.3, ge=0, le=1, description="Paragraphs that occurred before.")
    max_duplicate_paragraph_character_share: float = Field(0.2, ge=0, le=1, description="Their characters, of all.")
    max_top_ngram_character_share: dict[Literal[2, 3, 4], float] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16}, description="Characters within the commonest n-gram of words, of all characters."
    )
    min_top_ngram_times: int = Field(
        2,
        ge=1,
        description="An n-gram that occurs less often is no repetition. 1 is datatrove's reading, which drops most "
        "texts of fewer than 25 words for their first 4-gram.",
    )
    max_duplicate_ngram_character_share: dict[Literal[5, 6, 7, 8, 9, 10], float] = Field(
        {},
        description="Characters within n-grams of words that occurred before, of all characters; the paper's are "
        "0.15 at 5 words falling to 0.10 at 10 (`TABLE_A1`).",
    )

    def count(self, text: str) -> RepetitionCounts:
        lines, paragraphs, words = LINE_END.split(text), PARAGRAPH_END.split(text.strip()), text.split()
        tops, ask = top_ngrams(words), bool(self.max_duplicate_ngram_character_share)
        return RepetitionCounts(
            len(text),
            len(lines),
            *duplicates(lines),
            len(paragraphs),
            *duplicates(paragraphs),
            *(times for _, times in tops),
            *(len(ngram) for ngram, _ in tops),
            *(repeated_characters(words) if ask and tops[-1][1] > 1 else [0] * len(DUPLICATE_SIZES)),
        )

    def tests(self, c: RepetitionCounts) -> Iterator[tuple[str, Count]]:
        characters = at_least_one(c.characters)
        yield "repetition_lines", c.repeated_lines / c.lines > self.max_duplicate_line_share
        yield "repetition_lines", c.repeated_line_characters / characters > self.max_duplicate_line_character_share
        yield "repetition_paragraphs", c.repeated_paragraphs / c.paragraphs > self.max_duplicate_paragraph_share
        share = c.repeated_paragraph_characters / characters
        yield "repetition_paragraphs", share > self.max_duplicate_paragraph_character_share
        for n, max_share in self.max_top_ngram_character_share.items():
            times = getattr(c, f"top_{n}_times")
            share = getattr(c, f"top_{n}") * times / characters
            yield f"repetition_top_{n}gram", (share > max_share) & (times >= self.min_top_ngram_times)
        for size, max_share in self.max_duplicate_ngram_character_share.items():
            yield f"repetition_{size}grams", getattr(c, f"repeated_{size}") / characters > max_share

    def detail(self, reason: str, text: str, c: RepetitionCounts) -> str:
        if reason == "repetition_lines":
            return f"{c.repeated_lines} of {c.lines} lines repeat an earlier one"
        if reason == "repetition_paragraphs":
            return f"{c.repeated_paragraphs} of {c.paragraphs} paragraphs repeat an earlier one"
        n = int(re.sub(r"\D", "", reason))
        if n in TOP_SIZES:
            ngram, times = top_ngram(text.split(), n)
            return f"{ngram!r} covers {len(ngram) * times / len(text):.2f}"
        return f"{n} words that occurred before cover {getattr(c, f'repeated_{n}') / len(text):.2f}"


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


def top_ngrams(words: Sequence[str]) -> list[tuple[str, int]]:
    """`top_ngram` for 2, 3 and 4 words: where no n-gram occurs twice, no longer one does."""
    tops: list[tuple[str, int]] = []
    for n in TOP_SIZES:
        distinct = tops and tops[-1][1] < 2
        first = (" ".join(words[:n]), 1) if len(words) >= n else ("", 0)
        tops.append(first if distinct else top_ngram(words, n))
    return tops


def top_ngram(words: Sequence[str], n: int) -> tuple[str, int]:
    """The commonest n-gram, the first of several as common, and how often it occurs."""
    ngrams = Counter(_ngrams(words, n))
    if not ngrams:
        return "", 0
    ngram, times = max(ngrams.items(), key=lambda item: item[1])
    return " ".join(ngram), times


def repeated_characters(words: Sequence[str]) -> list[int]:
    """For 5- to 10-grams, the characters in those that occurred before. One that is counted is stepped over whole."""
    found = []
    for n in DUPLICATE_SIZES:
        if len(set(_ngrams(words, n))) == max(0, len(words) - n + 1):
            break  # no n-gram twice, so no longer one either
        found.append(_repeated_characters(words, n))
    return found + [0] * (len(DUPLICATE_SIZES) - len(found))


def _repeated_characters(words: Sequence[str], n: int) -> int:
    ends = [0, *accumulate(map(len, words))]
    seen: set[tuple[str, ...]] = set()
    characters = free = 0
    for start, ngram in enumerate(_ngrams(words, n)):
        if start < free:
            continue
        if ngram in seen:
            characters, free = characters + ends[start + n] - ends[start], start + n
        seen.add(ngram)
    return characters


def _ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)
