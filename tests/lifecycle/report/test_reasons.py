"""Every reason a filter can give is explained, and has the paper its rule is from."""

from lifecycle.data.filters import C4Rules, FineWebRules, GopherRules, RepetitionRules
from lifecycle.report.reasons import family, meaning

FINEWEB = FineWebRules(max_repeated_line_character_share=0.01, max_newlines_per_word=0.3)
FAMILIES = [GopherRules(), RepetitionRules(), FINEWEB]


def test_every_reason_of_every_quality_rule_has_a_meaning_and_a_paper():
    reasons = {reason for rules in FAMILIES for reason, _ in rules.tests(rules.count("Some words. Some words."))}
    c4 = C4Rules(drop_curly_brackets=True)
    reasons |= {c4.judge(text).drop.reason for text in ("lorem ipsum", "{}")}
    assert len(reasons) >= 18
    assert not [reason for reason in reasons if not meaning(reason)]
    assert not [reason for reason in reasons if not family(reason).link]


def test_runs_of_words_are_counted_in_the_sentence():
    assert meaning("repetition_top_3gram") == "one run of 3 words covers too much of the text"
    assert meaning("repetition_7grams").startswith("runs of 7 words")


def test_an_unknown_reason_has_no_meaning_and_no_made_up_source():
    assert meaning("mine") == ""
    assert family("mine").link == ""
