"""The rules of C4: Raffel et al. 2020, section 2.2, https://arxiv.org/abs/1910.10683.

Two look at whole texts. The others take lines out of a text, so they change what is trained on: off until asked for.
C4's list of bad words is not here: it drops every text that names a body part (Dodge et al. 2021, section 5.3).
"""

import functools
import re
import unicodedata
from collections import Counter

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.verdict import Drop, Verdict

LINE_ENDS = (".", "?", "!", '"', "'")
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
QUOTES = ('"', "'", "”")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
# Every phrase a line is read for contains one of these: a text without them is read faster.
TELLTALES = ("lorem ipsum", "javascript", "terms of use", "privacy policy", "cookie")
LONG_WORD, UNENDED, FEW_WORDS, JAVASCRIPT, POLICY = (
    "c4_line_long_word", "c4_line_unended", "c4_line_few_words", "c4_line_javascript", "c4_line_policy",
)  # fmt: skip


class C4LineRules(BaseModel):
    """Which lines stay. Defaults are the paper's and its published code's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    only_ended: bool = Field(True, description="Keep only lines that end in . ? ! or a quotation mark.")
    min_words: int = Field(3, ge=1, description="Lines of fewer words are buttons and headings.")
    max_word_characters: int = Field(1_000, ge=1, description="Lines with a longer word are encoded data.")
    without_citations: bool = Field(True, description="Take out [1], [edit] and [citation needed], as in Wikipedia.")
    without_javascript: bool = Field(True, description="Take out lines that name JavaScript: most ask to enable it.")
    without_policies: bool = Field(True, description="Take out lines on cookies, privacy and terms of use.")
    min_sentences: int = Field(5, ge=0, description="Texts with fewer in the lines that stay are dropped.")
    sentence_ends: str = Field(".!?…。！？", description="Characters that end a sentence; the full stop always does.")


class C4Rules(BaseModel):
    """Placeholder text, code, and the lines of a page that are not its text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drop_lorem_ipsum: bool = Field(True, description="Drop texts with this placeholder.")
    drop_curly_brackets: bool = Field(False, description="C4 drops pages with '{'. Off: our manuals hold real code.")
    lines: C4LineRules | None = Field(None, description="Which lines stay; None: all. C4 cleans lines.")

    def judge(self, text: str) -> Verdict:
        """The text with the lines that stay, or why it is dropped."""
        if self.lines is None:
            return Verdict(self._drop_for(text), text)
        kept: list[str] = []
        removed: Counter[str] = Counter()
        for line in text.splitlines():
            if drop := self.judge_line(self.lines, line, kept, removed):
                return Verdict(drop, text)
        sentences = sum(count_sentences(line, self.lines.sentence_ends) for line in kept)
        return self.joined(self.lines, kept, removed, sentences)

    def judge_line(self, rules: C4LineRules, line: str, kept: list[str], removed: Counter[str]) -> Drop | None:
        """Append the line to those kept, or count why it is not; or say why the whole text is dropped."""
        line = line.strip()
        words = line.split()
        if not words:
            return None
        too_long = max(map(len, words)) > rules.max_word_characters
        if rules.without_citations and "[" in line:
            line = CITATION.sub("", line)
        lower = line.lower()
        if too_long:
            removed[LONG_WORD] += 1
        elif rules.only_ended and (not line.endswith(LINE_ENDS) or line.endswith("...")):
            removed[UNENDED] += 1
        elif len(words) < rules.min_words:
            removed[FEW_WORDS] += 1
        elif self.drop_lorem_ipsum and "lorem ipsum" in lower:
            return Drop("c4_lorem_ipsum")
        elif rules.without_javascript and "javascript" in lower:
            removed[JAVASCRIPT] += 1
        elif self.drop_curly_brackets and "{" in line:
            return Drop("c4_curly_bracket")
        elif rules.without_policies and any(policy in lower for policy in POLICIES):
            removed[POLICY] += 1
        else:
            kept.append(line)
        return None

    def joined(self, rules: C4LineRules, kept: list[str], removed: Counter[str], sentences: int) -> Verdict:
        """The lines that stay as one text, if they have enough sentences."""
        text = "\n".join(kept).strip()
        if sentences < rules.min_sentences:
            detail = f"{sentences} sentences in {len(kept)} lines that stay, not {rules.min_sentences}"
            return Verdict(Drop("c4_few_sentences", detail), text)
        return Verdict(None, text, dict(removed))

    def _drop_for(self, text: str) -> Drop | None:
        if self.drop_lorem_ipsum and "lorem ipsum" in text.lower():
            return Drop("c4_lorem_ipsum")
        return Drop("c4_curly_bracket") if self.drop_curly_brackets and "{" in text else None


def count_sentences(line: str, ends: str) -> int:
    """Sentences of a line, at least one: each is ended by one of `ends` and perhaps a quotation mark.

    A full stop behind a capital letter (J. F. Kennedy) ends none, unless nothing behind it would. It is the rule of
    datatrove for languages that write spaces; C4 itself used NLTK's trained Punkt.
    """
    count, begin, initial = 0, 0, False
    for run in _runs_of(ends).finditer(line):
        at = max(run.start(), begin + 1)  # a sentence has something before its end
        if begin < at < run.end() and line[at] == "." and unicodedata.category(line[at - 1]) == "Lu":
            at, initial = at + 1, True
        if at < run.end():
            count, begin, initial = count + 1, run.end(), False
            begin += line[begin : begin + 1] in QUOTES
    return max(1, count + initial)


@functools.cache
def _runs_of(ends: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(ends + '.')}]+")
