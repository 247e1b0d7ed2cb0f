"""The rules that FineWeb found by comparing good crawls with bad: Penedo et al. 2024, section 3.6,
https://arxiv.org/abs/2406.17557."""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from pydantic import Field

from lifecycle.data.filters.repetition import duplicates
from lifecycle.data.filters.verdict import Count, Drop, Family, at_least_one

TERMINALS = ".!?\"'”’:;。！？…)"


class FineWebCounts(NamedTuple):
    """What the rules look at; lines are those that newlines separate and that are not blank."""

    characters: Count
    words: Count
    lines: Count
    ended_lines: Count
    short_lines: Count
    repeated_line_characters: Count
    newlines: Count


class FineWebRules(Family):
    """Page scaffolding: menus, lists of links, tables. None switches a rule off."""

    counts: ClassVar[type[FineWebCounts]] = FineWebCounts
    min_lines: int = Field(
        5,
        ge=0,
        description="Texts of fewer lines pass. FineWeb set its shares on whole pages (0); on a few lines one line "
        "decides: of 14 such drops we looked at, 9 were good prose that ends in a name or inside a sentence.",
    )
    min_ended_line_share: float | None = Field(0.12, ge=0, le=1, description="Lines that end in punctuation, of all.")
    max_short_line_share: float | None = Field(0.67, ge=0, le=1, description="Short lines, of all lines.")
    short_line_characters: int = Field(30, ge=0, description="A line of at most so many characters is short.")
    strip_lines: bool = Field(True, description="Measure lines without their indentation; datatrove measures it too.")
    max_repeated_line_character_share: float | None = Field(
        None, ge=0, le=1, description="Characters in lines that occurred before, of all: FineWeb's is 0.01."
    )
    max_newlines_per_word: float | None = Field(None, ge=0, description="Above: a list, not prose. FineWeb's is 0.3.")
    terminals: str = Field(TERMINALS, description="Characters that end a line of prose.")

    def drop(self, text: str) -> Drop | None:
        return None if text.count("\n") + 1 < self.min_lines else super().drop(text)

    def count(self, text: str) -> FineWebCounts:
        lines = [line for line in text.split("\n") if line.strip()]
        looks = [line.strip() for line in lines] if self.strip_lines else lines
        return FineWebCounts(
            characters=len(text),
            words=len(text.split()),
            lines=len(lines),
            ended_lines=sum(line.endswith(tuple(self.terminals)) for line in looks),
            short_lines=sum(len(line) <= self.short_line_characters for line in looks),
            repeated_line_characters=duplicates(lines)[1],
            newlines=text.count("\n"),
        )

    def tests(self, c: FineWebCounts) -> Iterator[tuple[str, Count]]:
        enough, lines = c.lines >= self.min_lines, at_least_one(c.lines)
        if self.max_short_line_share is not None:
            yield "fineweb_short_lines", enough & (c.short_lines / lines > self.max_short_line_share)
        if self.min_ended_line_share is not None:
            yield "fineweb_unended_lines", enough & (c.ended_lines / lines < self.min_ended_line_share)
        if self.max_repeated_line_character_share is not None:
            share = c.repeated_line_characters / at_least_one(c.characters - c.newlines)
            yield "fineweb_repeated_lines", enough & (share > self.max_repeated_line_character_share)
        if self.max_newlines_per_word is not None:
            rate = c.newlines / at_least_one(c.words)
            yield "fineweb_list", enough & (rate > self.max_newlines_per_word)

    def detail(self, reason: str, text: str, c: FineWebCounts) -> str:
        match reason:
            case "fineweb_short_lines":
                return f"{c.short_lines} of {c.lines} lines"
            case "fineweb_unended_lines":
                return f"{c.ended_lines} of {c.lines} lines end in punctuation"
            case "fineweb_repeated_lines":
                return f"{c.repeated_line_characters} of {c.characters - c.newlines} characters"
            case _:
                return f"{c.newlines} newlines in {c.words} words"
