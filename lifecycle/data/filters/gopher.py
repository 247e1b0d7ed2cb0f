"""The quality rules of Gopher: Rae et al. 2021, appendix A.1.1, https://arxiv.org/abs/2112.11446.

Words are what white space separates; a symbol word has no letter or digit and does not count as a word of prose.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.verdict import Drop

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "-", "‣", "*")
ELLIPSES = ("...", "…")


class GopherRules(BaseModel):
    """Defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min_words: int = Field(50, ge=0, description="Words of prose; the paper's 50 assumes web pages, not glosses.")
    max_words: int = Field(100_000, ge=1)
    min_mean_word_characters: float = Field(3.0, ge=0)
    max_mean_word_characters: float = Field(10.0, gt=0)
    max_symbols_per_word: float = Field(0.1, ge=0, description="'#' per word, and ellipses per word.")
    max_bullet_line_share: float = Field(0.9, ge=0, le=1)
    max_ellipsis_line_share: float = Field(0.3, ge=0, le=1)
    min_alphabetic_word_share: float = Field(0.8, ge=0, le=1, description="Share of words with at least one letter.")
    min_stop_words: int = Field(2, ge=0, le=len(STOP_WORDS), description="Distinct words of: " + ", ".join(STOP_WORDS))

    def drop(self, text: str) -> Drop | None:
        words = text.split()
        return self._drop_for_words(words) or self._drop_for_symbols(text, words) or self._drop_for_lines(text)

    def _drop_for_words(self, words: Sequence[str]) -> Drop | None:
        prose = [word for word in words if _KNOWN[word] >= _PROSE]
        if not self.min_words <= len(prose) <= self.max_words:
            return Drop("gopher_word_count", f"{len(prose)} words, not {self.min_words} to {self.max_words}")
        mean = sum(map(len, prose)) / max(1, len(prose))
        if not self.min_mean_word_characters <= mean <= self.max_mean_word_characters:
            return Drop("gopher_mean_word_length", f"{mean:.2f} characters")
        alphabetic = sum(_KNOWN[word] == _ALPHABETIC for word in words) / max(1, len(words))
        if alphabetic < self.min_alphabetic_word_share:
            return Drop("gopher_alphabetic_words", f"{alphabetic:.2f} < {self.min_alphabetic_word_share}")
        if len(STOP_WORDS.intersection(words)) < self.min_stop_words:
            return Drop("gopher_stop_words", f"{len(STOP_WORDS.intersection(words))} < {self.min_stop_words}")
        return None

    def _drop_for_symbols(self, text: str, words: Sequence[str]) -> Drop | None:
        ellipses = sum(map(text.count, ELLIPSES))
        for name, count in (("#", text.count("#")), ("ellipsis", ellipses)):
            if count > self.max_symbols_per_word * len(words):
                return Drop("gopher_symbols", f"{count} {name} in {len(words)} words")
        return None

    def _drop_for_lines(self, text: str) -> Drop | None:
        lines = text.splitlines() or [""]
        bullets = sum(line.lstrip().startswith(BULLETS) for line in lines) / len(lines)
        if bullets > self.max_bullet_line_share:
            return Drop("gopher_bullet_lines", f"{bullets:.2f} > {self.max_bullet_line_share}")
        trailing = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)
        if trailing > self.max_ellipsis_line_share:
            return Drop("gopher_ellipsis_lines", f"{trailing:.2f} > {self.max_ellipsis_line_share}")
        return None


_SYMBOL, _PROSE, _ALPHABETIC = 0, 1, 2


class _WordKinds(dict[str, int]):
    """Word -> symbol, prose or alphabetic prose. A language repeats its words: most look-ups are hits."""

    MAX = 1_000_000  # about 100 MB

    def __missing__(self, word: str) -> int:
        if len(self) >= self.MAX:
            self.clear()
        if any(character.isalpha() for character in word):
            kind = _ALPHABETIC
        else:
            kind = _PROSE if any(character.isalnum() for character in word) else _SYMBOL
        self[word] = kind
        return kind


_KNOWN = _WordKinds()
