"""The same decisions as datatrove's filters, document by document, with words that white space separates.

Both sides get the same characters: datatrove's lists of punctuation. Ours differ by default, and `test_our_own_lists`
says how often that matters. Every rule is asked alone, so that one rule cannot hide behind another; all of them
together, as benchmarks/datatrove_rules.py sets them, are what the benchmark measures.
"""

import functools
import gzip
from pathlib import Path

import orjson
import pytest
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters.pii import PIIFormatter

from benchmarks.datatrove_rules import (
    BULLETS,
    SYMBOLS,
    TERMINALS,
    SplitOnWhiteSpace,
    datatrove_decides,
    our_rules,
    their_filters,
    we_decide,
)
from lifecycle.data.filters import C4LineRules, C4Rules, FineWebRules, GopherRules, QualityRules, RepetitionRules
from lifecycle.data.filters.repetition import TABLE_A1
from lifecycle.data.scrub import Scrubbing, scrub

PACK = Path(__file__).parents[4] / "lifecycle" / "recipes" / "pack" / "corpus"
NO_GOPHER = GopherRules(
    min_words=0, max_words=10**9, min_mean_word_characters=0, max_mean_word_characters=10**9,
    max_symbols_per_word=10**9, max_bullet_line_share=1, max_ellipsis_line_share=1, min_alphabetic_word_share=0,
    min_stop_words=0, bullets=BULLETS, symbols=SYMBOLS,
)  # fmt: skip
NO_REPETITION = RepetitionRules(
    max_duplicate_line_share=1, max_duplicate_line_character_share=1, max_duplicate_paragraph_share=1,
    max_duplicate_paragraph_character_share=1, max_top_ngram_character_share={}, min_top_ngram_times=1,
)  # fmt: skip
NO_FINEWEB = FineWebRules(
    min_lines=0, min_ended_line_share=None, max_short_line_share=None, strip_lines=False, terminals=TERMINALS
)
GOPHER_OFF = {
    "min_doc_words": None, "max_doc_words": None, "min_avg_word_length": None, "max_avg_word_length": None,
    "max_symbol_word_ratio": None, "max_bullet_lines_ratio": None, "max_ellipsis_lines_ratio": None,
    "max_non_alpha_words_ratio": None, "min_stop_words": None,
}  # fmt: skip
REPETITION_OFF = {
    "dup_line_frac": None, "dup_para_frac": None, "dup_line_char_frac": None, "dup_para_char_frac": None,
    "top_n_grams": (), "dup_n_grams": (),
}  # fmt: skip
FINEWEB_OFF = {"line_punct_thr": -1.0, "short_line_thr": 9.0, "char_duplicates_ratio": 9.0, "new_line_ratio": 1e9}
C4_OFF = {
    "remove_citations": False, "filter_no_terminal_punct": False, "min_num_sentences": -1, "min_words_per_line": 1,
    "max_word_length": -1, "filter_lorem_ipsum": False, "filter_javascript": False, "filter_curly_bracket": False,
    "filter_policy": False,
}  # fmt: skip
NO_C4_LINES = C4LineRules(
    only_ended=False, min_words=1, max_word_characters=10**9, without_citations=False, without_javascript=False,
    without_policies=False, min_sentences=0, sentence_ends=TERMINALS,
)  # fmt: skip
# Each rule alone: ours, theirs. The thresholds of the second of a pair cut through the middle of our documents.
GOPHER = [
    ({"min_words": 50}, {"min_doc_words": 50}),
    ({"max_words": 200}, {"max_doc_words": 200}),
    ({"min_mean_word_characters": 4.5}, {"min_avg_word_length": 4.5}),
    ({"max_mean_word_characters": 4.7}, {"max_avg_word_length": 4.7}),
    ({"max_symbols_per_word": 0.1}, {"max_symbol_word_ratio": 0.1}),
    ({"max_symbols_per_word": 0.002}, {"max_symbol_word_ratio": 0.002}),
    ({"max_bullet_line_share": 0.3}, {"max_bullet_lines_ratio": 0.3}),
    ({"max_ellipsis_line_share": 0.01}, {"max_ellipsis_lines_ratio": 0.01}),
    ({"min_alphabetic_word_share": 0.8}, {"max_non_alpha_words_ratio": 0.8}),
    ({"min_alphabetic_word_share": 0.95}, {"max_non_alpha_words_ratio": 0.95}),
    ({"min_stop_words": 4}, {"min_stop_words": 4}),
]
REPETITION = [
    ({"max_duplicate_line_share": 0.05}, {"dup_line_frac": 0.05}),
    ({"max_duplicate_line_character_share": 0.02}, {"dup_line_char_frac": 0.02}),
    ({"max_duplicate_paragraph_share": 0.05}, {"dup_para_frac": 0.05}),
    ({"max_duplicate_paragraph_character_share": 0.02}, {"dup_para_char_frac": 0.02}),
    *[({"max_top_ngram_character_share": {n: x}}, {"top_n_grams": ((n, x),)}) for n in (2, 3, 4) for x in (0.08, 0.18)],
    *[
        ({"max_duplicate_ngram_character_share": {n: x}}, {"dup_n_grams": ((n, x),)})
        for n, paper in TABLE_A1.items()
        for x in (0.01, paper)
    ],
]
FINEWEB = [
    ({"min_ended_line_share": 0.5}, {"line_punct_thr": 0.5}),
    ({"max_short_line_share": 0.2}, {"short_line_thr": 0.2}),
    ({"max_repeated_line_character_share": 0.01}, {"char_duplicates_ratio": 0.01}),
    ({"max_newlines_per_word": 0.1}, {"new_line_ratio": 0.1}),
]
C4 = [
    ({"only_ended": True}, {"filter_no_terminal_punct": True}),
    ({"min_words": 6}, {"min_words_per_line": 6}),
    ({"max_word_characters": 20}, {"max_word_length": 20}),
    ({"without_citations": True}, {"remove_citations": True}),
    ({"without_javascript": True}, {"filter_javascript": True}),
    ({"without_policies": True}, {"filter_policy": True}),
    ({"min_sentences": 5}, {"min_num_sentences": 5}),
]


class Words(SplitOnWhiteSpace):
    """Its sentences are dear (600 kB/s) and asked for the same lines by several tests: each is split once."""

    sent_tokenize = functools.cache(SplitOnWhiteSpace.sent_tokenize)


WORDS = Words()
LONG_CHARACTERS = 1_380


@pytest.fixture(scope="module")
def documents():
    """Over 5,000 documents that ship (of the long ones every tenth: they take the time), noise in every seventh.

    The noise is what pages have and these texts have not, such as cookies and citations.
    """
    lines = [
        line for path in sorted(PACK.glob("*.jsonl.gz")) for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    texts = [orjson.loads(line)["text"] for line in lines]
    texts = [text for n, text in enumerate(texts) if len(text) < LONG_CHARACTERS or n % 10 == 0]
    assert len(texts) > 5_000
    noise = (
        "Please enable JavaScript.",
        "We use cookies.",
        "As shown[3] before[citation needed].",
        "Lorem ipsum dolor.",
        "{ code }.",
        "Read on...",
        "J. F. Kennedy said so.",
        "x" * 1001 + " is long.",
        "\n\n• one\n• two",
        "Share",
    )
    return [f"{text}\n{noise[n // 7 % len(noise)]}" if n % 7 == 0 else text for n, text in enumerate(texts)]


def alone(family, on):
    """Quality rules with this one family, and in it this one rule."""
    return QualityRules(**dict.fromkeys(("gopher", "repetition", "c4", "fineweb")) | {family: on})


def cases():
    """Ours with one rule, datatrove's with the same."""
    for a, b in GOPHER:
        theirs = GopherQualityFilter(**GOPHER_OFF | b, language=WORDS)
        yield alone("gopher", NO_GOPHER.model_copy(update=a)), theirs
    for a, b in REPETITION:
        theirs = GopherRepetitionFilter(**REPETITION_OFF | b, language=WORDS)
        yield alone("repetition", NO_REPETITION.model_copy(update=a)), theirs
    for a, b in FINEWEB:
        theirs = FineWebQualityFilter(**FINEWEB_OFF | b, stop_chars=tuple(TERMINALS), language=WORDS)
        yield alone("fineweb", NO_FINEWEB.model_copy(update=a)), theirs
    for a, b in C4:
        lines = NO_C4_LINES.model_copy(update=a)
        yield alone("c4", C4Rules(drop_lorem_ipsum=False, lines=lines)), C4QualityFilter(**C4_OFF | b, language=WORDS)


@pytest.mark.slow
def test_every_rule_alone_decides_as_datatrove_does(documents):
    for ours, theirs in cases():
        mine, other = we_decide(ours, documents), datatrove_decides([theirs], documents)
        differ = [(text[:200], a, b) for text, a, b in zip(documents, mine, other, strict=True) if a != b]
        assert not differ, (ours, len(differ), differ[:3])
        assert any(left != text for text, (_, left) in zip(documents, mine, strict=True)), ours


@pytest.mark.slow
def test_the_whole_chain_decides_as_datatrove_does(documents):
    ours, other = our_rules(min_sentences=2), datatrove_decides(their_filters(WORDS, min_sentences=2), documents)
    for compiled in (False, True):
        assert we_decide(ours, documents, compiled=compiled) == other
    assert 0.1 < sum(kept for kept, _ in other) / len(documents) < 0.9  # neither side says the same of all


def test_our_own_lists_of_characters_change_few_decisions(documents):
    lists = GopherRules(symbols=SYMBOLS, bullets=BULLETS)
    differ = sum((GopherRules().drop(text) is None) != (lists.drop(text) is None) for text in documents[::5])
    assert differ <= 0.01 * len(documents[::5])


def test_the_same_addresses_are_scrubbed(documents):
    theirs = PIIFormatter(email_replacement="<EMAIL>", ip_replacement="<IP>")
    sown = ("jo.do@ex-ample.co.uk,", "(a_b+c@d.org)", "8.8.8.8", "192.168.1.1", "93.184.216.34:80", "x@y.z1.com")
    for number, text in enumerate(documents):
        words = text.split(" ")
        words.insert(number % len(words), sown[number % len(sown)])
        assert scrub(" ".join(words), Scrubbing(kinds=("EMAIL", "IP"))).text == theirs.format(" ".join(words))
