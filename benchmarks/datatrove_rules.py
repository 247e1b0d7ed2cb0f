"""Our quality rules and datatrove's, set so that both must decide the same; what the tests and the benchmark compare.

datatrove gets words that white space separates: spaCy would take nine tenths of its time, and give other words.
"""

from collections.abc import Sequence

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from lifecycle.data.filters import C4LineRules, C4Rules, FineWebRules, GopherRules, QualityRules, RepetitionRules
from lifecycle.data.filters.repetition import TABLE_A1

# datatrove's lists of characters, and how it counts bullets.
SYMBOLS = "".join(sorted(PUNCTUATION_SET))
TERMINALS = "".join(sorted(TERMINAL_PUNCTUATION))
BULLETS = "•-"


class SplitOnWhiteSpace(WhitespaceTokenizer):
    """datatrove's sentences, and words without spaCy."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


def our_rules(*, min_sentences: int = 5) -> QualityRules:
    """All families at the thresholds of their papers, with datatrove's characters and its reading of each rule."""
    return QualityRules(
        gopher=GopherRules(symbols=SYMBOLS, bullets=BULLETS),
        repetition=RepetitionRules(min_top_ngram_times=1, max_duplicate_ngram_character_share=TABLE_A1),
        c4=C4Rules(drop_curly_brackets=True, lines=C4LineRules(sentence_ends=TERMINALS, min_sentences=min_sentences)),
        fineweb=FineWebRules(
            min_lines=0,
            strip_lines=False,
            terminals=TERMINALS,
            max_repeated_line_character_share=0.01,
            max_newlines_per_word=0.3,
        ),
    )


def their_filters(words: WhitespaceTokenizer, *, min_sentences: int = 5) -> list[BaseFilter]:
    """The same as datatrove's filters, in the order of our families."""
    return [
        GopherQualityFilter(language=words),
        GopherRepetitionFilter(language=words),
        C4QualityFilter(language=words, min_num_sentences=min_sentences),
        FineWebQualityFilter(language=words),
    ]


def we_decide(rules: QualityRules, texts: Sequence[str], *, compiled: bool = True) -> list[tuple[bool, str]]:
    """Whether each text is kept, and what is left of it if so."""
    verdicts = rules.judge_all(texts, compiled=compiled)
    return [(verdict.drop is None, "" if verdict.drop else verdict.text) for verdict in verdicts]


def datatrove_decides(filters: Sequence[BaseFilter], texts: Sequence[str]) -> list[tuple[bool, str]]:
    """The same of datatrove."""
    found = []
    for text in texts:
        document = Document(text=text, id="")
        kept = all(_keeps(step, document) for step in filters)
        found.append((kept, document.text if kept else ""))
    return found


def _keeps(step: BaseFilter, document: Document) -> bool:
    result = step.filter(document)
    return result[0] if isinstance(result, tuple) else result
