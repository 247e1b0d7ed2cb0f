"""The quality rules of Gopher: Rae et al. 2021, appendix A1.1, https://arxiv.org/abs/2112.11446.

Words are what white space separates; a symbol word has no letter or digit and does not count as a word of prose.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from pydantic import Field

from lifecycle.data.filters.verdict import Count, Family, at_least_one

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
ELLIPSES = ("...", "…")


class GopherCounts(NamedTuple):
    """What the rules look at; `stop_words` counts distinct ones, lines are those of `str.splitlines`."""

    words: Count
    prose_words: Count
    prose_characters: Count
    alphabetic_words: Count
    stop_words: Count
    hash_signs: Count
    ellipses: Count
    lines: Count
    bullet_lines: Count
    ellipsis_lines: Count


class GopherRules(Family):
    """Defaults are the paper's."""

    counts: ClassVar[type[GopherCounts]] = GopherCounts
    min_words: int = Field(50, ge=0, description="Words of prose; the paper's 50 assumes web pages, not glosses.")
    max_words: int = Field(100_000, ge=1, description="Words of prose; longer are dumps and logs.")
    min_mean_word_characters: float = Field(3.0, ge=0, description="Of the words of prose; below: tables, codes.")
    max_mean_word_characters: float = Field(10.0, gt=0, description="Of the words of prose; above: URLs, identifiers.")
    max_symbols_per_word: float = Field(0.1, ge=0, description="'#' per word, and ellipses per word: tags and teasers.")
    max_bullet_line_share: float = Field(0.9, ge=0, le=1, description="Lines that begin with a bullet: bare lists.")
    max_ellipsis_line_share: float = Field(0.3, ge=0, le=1, description="Lines that end in an ellipsis: teasers.")
    min_alphabetic_word_share: float = Field(0.8, ge=0, le=1, description="Share of words with at least one letter.")
    min_stop_words: int = Field(2, ge=0, description="Distinct stop words: a text without them is hardly sentences.")
    stop_words: tuple[str, ...] = Field(STOP_WORDS, max_length=32, description="The paper's, which are English.")
    bullets: str = Field("•-‣*", description="Characters that begin an item of a list.")
    symbols: str | None = Field(None, description="A word of these alone is no prose; None: all but letters, digits.")

    def count(self, text: str) -> GopherCounts:
        words = text.split()
        kinds = _kinds(self.symbols)
        prose = [word for word in words if kinds[word] & _PROSE]
        lines = text.splitlines() or [""]
        return GopherCounts(
            words=len(words),
            prose_words=len(prose),
            prose_characters=sum(map(len, prose)),
            alphabetic_words=sum(kinds[word] & _ALPHABETIC for word in words),
            stop_words=len(set(self.stop_words).intersection(words)),
            hash_signs=text.count("#"),
            ellipses=sum(map(text.count, ELLIPSES)),
            lines=len(lines),
            bullet_lines=sum(line.lstrip().startswith(tuple(self.bullets)) for line in lines),
            ellipsis_lines=sum(line.rstrip().endswith(ELLIPSES) for line in lines),
        )

    def tests(self, c: GopherCounts) -> Iterator[tuple[str, Count]]:
        words = at_least_one(c.words)
        mean = c.prose_characters / at_least_one(c.prose_words)
        yield "gopher_word_count", (c.prose_words < self.min_words) | (c.prose_words > self.max_words)
        # A text without a word of prose has no mean; whether that is too few is the rule above.
        outside = (mean < self.min_mean_word_characters) | (mean > self.max_mean_word_characters)
        yield "gopher_mean_word_length", outside & (c.prose_words > 0)
        yield "gopher_alphabetic_words", c.alphabetic_words / words < self.min_alphabetic_word_share
        yield "gopher_stop_words", c.stop_words < self.min_stop_words
        yield "gopher_symbols", c.hash_signs / words > self.max_symbols_per_word
        yield "gopher_symbols", c.ellipses / words > self.max_symbols_per_word
        yield "gopher_bullet_lines", c.bullet_lines / c.lines > self.max_bullet_line_share
        yield "gopher_ellipsis_lines", c.ellipsis_lines / c.lines > self.max_ellipsis_line_share

    def detail(self, reason: str, text: str, c: GopherCounts) -> str:
        match reason:
            case "gopher_word_count":
                return f"{c.prose_words} words, not {self.min_words} to {self.max_words}"
            case "gopher_mean_word_length":
                return f"{c.prose_characters / c.prose_words:.2f} characters"
            case "gopher_alphabetic_words":
                share = c.alphabetic_words / at_least_one(c.words)
                return f"{share:.2f} < {self.min_alphabetic_word_share}"
            case "gopher_stop_words":
                return f"{c.stop_words} < {self.min_stop_words}"
            case "gopher_symbols":
                hashes = c.hash_signs / at_least_one(c.words) > self.max_symbols_per_word
                return f"{c.hash_signs if hashes else c.ellipses} {'#' if hashes else 'ellipsis'} in {c.words} words"
            case "gopher_bullet_lines":
                return f"{c.bullet_lines / c.lines:.2f} > {self.max_bullet_line_share}"
            case _:
                return f"{c.ellipsis_lines / c.lines:.2f} > {self.max_ellipsis_line_share}"


_ALPHABETIC, _PROSE = 1, 2


class _WordKinds(dict[str, int]):
    """Word -> bits: has a letter, is prose. A language repeats its words: most look-ups are hits."""

    MAX = 1_000_000  # about 100 MB

    def __init__(self, symbols: str | None) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)

    def __missing__(self, word: str) -> int:
        if len(self) >= self.MAX:
            self.clear()
        kind = _ALPHABETIC if any(map(str.isalpha, word)) else 0
        is_prose = any(map(str.isalnum, word)) if self.symbols is None else not self.symbols.issuperset(word)
        self[word] = kind | (_PROSE if is_prose else 0)
        return self[word]


_KINDS: dict[str | None, _WordKinds] = {}


def _kinds(symbols: str | None) -> _WordKinds:
    return _KINDS.setdefault(symbols, _WordKinds(symbols))
