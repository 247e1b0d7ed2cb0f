"""Rules of C4 (Raffel et al. 2020, section 2.2, https://arxiv.org/abs/1910.10683) and of FineWeb (Penedo et al. 2024,
section 3.6, https://arxiv.org/abs/2406.17557) that look at whole documents. C4's line rules are not here yet."""

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.verdict import Drop

TERMINAL_PUNCTUATION = (".", "!", "?", '"', "'", "”", "’", ":", ";", "。", "！", "？", "…", ")")
SHORT_LINE_CHARACTERS = 30
# FineWeb set its shares on whole pages. On documents of a few lines one line decides: without this, 9 of 14 drops we
# looked at were good prose that ends in a name or in the middle of a sentence.
MIN_LINES = 5


class C4Rules(BaseModel):
    """Page scaffolding: placeholder text, code, lists of links."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drop_lorem_ipsum: bool = True
    drop_curly_brackets: bool = Field(False, description="C4 drops pages with '{'. Off: our manuals hold real code.")
    max_short_line_share: float = Field(
        0.67, ge=0, le=1, description="FineWeb: lines of at most 30 characters, of all lines."
    )
    min_ended_line_share: float = Field(
        0.12, ge=0, le=1, description="FineWeb: lines that end in punctuation, of all lines."
    )

    def drop(self, text: str) -> Drop | None:
        if self.drop_lorem_ipsum and "lorem ipsum" in text.lower():
            return Drop("c4_lorem_ipsum")
        if self.drop_curly_brackets and "{" in text:
            return Drop("c4_curly_bracket")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) < MIN_LINES:
            return None
        short = sum(len(line) <= SHORT_LINE_CHARACTERS for line in lines)
        if short > self.max_short_line_share * len(lines):
            return Drop("fineweb_short_lines", f"{short} of {len(lines)} lines")
        ended = sum(line.endswith(TERMINAL_PUNCTUATION) for line in lines)
        if ended < self.min_ended_line_share * len(lines):
            return Drop("fineweb_unended_lines", f"{ended} of {len(lines)} lines end in punctuation")
        return None
