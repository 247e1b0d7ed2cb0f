"""What each verdict needs, on numbers small enough to check, and how often the whole gate errs."""

import random

import pytest

from lifecycle.errors import ConfigError
from lifecycle.evaluation.evidence import Rate, Share
from lifecycle.evaluation.rules import Ceiling, Floor, Guard, check_rules


def share(right, items, *, missing=0):
    values = [True] * right + [False] * (items - right - missing) + [None] * missing
    return Share({f"i{n}": value for n, value in enumerate(values)})


def changed(live: Share, *, lost=0, gained=0):
    """`live` with the first `lost` right items now wrong and the first `gained` wrong ones now right."""
    now = dict(live.right)
    for item in [i for i, right in live.right.items() if right][:lost]:
        now[item] = False
    for item in [i for i, right in live.right.items() if not right][:gained]:
        now[item] = True
    return Share(now)


def only(rule, found, live=None, **more):
    (check,) = check_rules([rule], {"m": found}, None if live is None else {"m": live}, alpha=0.05, **more)
    return check


def test_a_floor_passes_when_the_whole_interval_lies_above_it():
    check = only(Floor(metric="m", at_least=0.8), share(180, 200))
    assert check.verdict == "PASS"
    # Wilson with z = 1.645: centre (0.9 + z^2/400) / (1 + z^2/200) = 0.8947, half width 0.0351.
    assert (check.low, check.high) == (pytest.approx(0.8596, abs=1e-4), pytest.approx(0.9297, abs=1e-4))
    assert "found 0.9000, more than 0.8 is asked; 90% interval [0.8596, 0.9297] over 200 items" in check.reason


def test_a_floor_fails_when_the_whole_interval_lies_below_it():
    assert only(Floor(metric="m", at_least=0.95), share(150, 200)).verdict == "FAIL"


def test_a_small_suite_is_inconclusive_and_says_how_many_items_more():
    check = only(Floor(metric="m", at_least=0.8), share(18, 20))  # the same 90 % as above
    assert check.verdict == "INCONCLUSIVE"
    assert "neither shown nor refuted; about 33 more items would show it to hold" in check.reason
    settled = only(Floor(metric="m", at_least=0.8), share(48, 53))
    assert settled.verdict == "PASS"


def test_at_the_bar_more_items_are_no_advice():
    assert (
        "so near the bar that more items would hardly settle it"
        in only(Floor(metric="m", at_least=0.9), share(90, 100)).reason
    )


def test_missing_items_count_against_the_candidate():
    assert only(Floor(metric="m", at_least=0.8), share(180, 200)).verdict == "PASS"
    check = only(Floor(metric="m", at_least=0.8), share(150, 200, missing=50))  # all that were measured are right
    assert check.verdict == "INCONCLUSIVE"
    assert "widened for 50 that could not be measured" in check.reason


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "the report has no metric 'm'; it has no metric at all"),
        ({"other": share(9, 9)}, "the report has no metric 'm'; it has other"),
        ({"m": share(0, 0)}, "it has no items"),
        ({"m": share(0, 4, missing=4)}, "none of 4 items could be measured"),
    ],
)
def test_missing_evidence_is_unmeasured(found, reason):
    (check,) = check_rules([Floor(metric="m", at_least=0.1)], found, None, alpha=0.05)
    assert (check.verdict, check.low) == ("UNMEASURED", None)
    assert reason in check.reason


def test_one_missing_document_leaves_a_ceiling_unmeasured():
    documents = Rate({"a": (200.0, 100), "b": (210.0, 100), "c": None})
    assert only(Ceiling(metric="m", at_most=9.0), documents).verdict == "UNMEASURED"


def test_a_ceiling_is_for_what_should_be_low():
    documents = Rate({f"d{n}": (200.0 + n, 100) for n in range(20)})
    assert only(Ceiling(metric="m", at_most=2.5), documents).verdict == "PASS"
    assert only(Ceiling(metric="m", at_most=2.0), documents).verdict == "FAIL"
    with pytest.raises(ConfigError, match="found a floor on 'm'"):
        only(Floor(metric="m", at_least=2.0), documents)
    with pytest.raises(ConfigError, match="found a ceiling on 'm'"):
        only(Ceiling(metric="m", at_most=0.5), share(5, 9))


def test_a_guard_waits_until_something_is_live():
    rules = [Floor(metric="m", at_least=0.5), Guard(metric="m", margin=0.03)]
    assert [check.rule for check in check_rules(rules, {"m": share(180, 200)}, None, alpha=0.05)] == ["floor"]


def test_a_guard_passes_an_equal_model_and_names_what_got_worse():
    live = share(1400, 1500)
    check = only(Guard(metric="m", margin=0.03), changed(live, lost=30, gained=30), live)
    assert (check.verdict, check.difference) == ("PASS", 0.0)
    assert check.items == [f"i{n}" for n in range(20)]
    assert "difference +0.0000 (30 gained, 30 lost), worse by less than 0.03 is asked" in check.reason


def test_a_guard_fails_a_model_that_lost_more_than_the_margin():
    live = share(1400, 1500)
    check = only(Guard(metric="m", margin=0.03), changed(live, lost=150), live)
    assert (check.verdict, check.difference) == ("FAIL", pytest.approx(-0.1))
    assert check.high < -0.03


def test_a_loss_within_reach_of_the_margin_is_neither():
    live = share(1400, 1500)
    check = only(Guard(metric="m", margin=0.03), changed(live, lost=45), live)  # exactly the margin
    assert check.verdict == "INCONCLUSIVE"


def test_a_guard_on_bits_fails_when_they_grow():
    live = Rate({f"d{n}": (200.0 + n % 7, 100) for n in range(40)})
    grown = Rate({name: (bits + 30 + n % 3, size) for n, (name, (bits, size)) in enumerate(live.documents.items())})
    assert only(Guard(metric="m", margin=0.1), grown, live).verdict == "FAIL"
    assert only(Guard(metric="m", margin=0.1), live, grown).verdict == "PASS"  # better by more than the margin
    assert only(Guard(metric="m", margin=0.1), live, live).verdict == "UNMEASURED"
    assert only(Guard(metric="m", margin=0.1), live, live, same_model=True).verdict == "PASS"


def test_a_guard_against_a_report_without_the_metric_is_unmeasured():
    (check,) = check_rules([Guard(metric="m", margin=0.1)], {"m": share(9, 9)}, {}, alpha=0.05)
    assert (check.verdict, check.candidate) == ("UNMEASURED", 1.0)
    assert "the live model's report has no metric 'm'" in check.reason


def test_more_rules_make_a_claim_of_harm_harder():
    """Holm: alone this loss is shown at 5 %, beside nineteen rules that hold it is not."""
    live, rule = share(1400, 1500), Guard(metric="m", margin=0.03)
    found = changed(live, lost=62)
    assert only(rule, found, live).verdict == "FAIL"
    others = [Floor(metric=f"other{n}", at_least=0.5) for n in range(19)]
    evidence = {"m": found, **{f"other{n}": share(90, 100) for n in range(19)}}
    checks = check_rules([rule, *others], evidence, {"m": live}, alpha=0.05)
    assert [check.verdict for check in checks] == ["INCONCLUSIVE"] + ["PASS"] * 19


def test_the_gates_error_rates_are_what_it_states():
    """Five guards, 300 items each, margin 0.05. A model at the margin on one of them is promoted in at most 5 % of
    histories, an equal model is blocked in at most 5 %; with four standard errors of 300 histories allowed."""
    draw = random.Random(0)

    def history(loss: float) -> set[str]:
        live, now, rules = {}, {}, []
        for number in range(5):
            metric, worse = f"m{number}", loss if number == 0 else 0.0
            pairs = draw.choices(
                [(True, True), (True, False), (False, True), (False, False)],
                [0.80 - worse, 0.03 + worse, 0.03, 0.14],
                k=300,
            )
            live[metric] = Share({f"i{n}": pair[0] for n, pair in enumerate(pairs)})
            now[metric] = Share({f"i{n}": pair[1] for n, pair in enumerate(pairs)})
            rules.append(Guard(metric=metric, margin=0.05))
        return {check.verdict for check in check_rules(rules, now, live, alpha=0.05)}

    at_margin = [history(0.05) for _ in range(300)]
    equal = [history(0.0) for _ in range(300)]
    assert sum(verdicts == {"PASS"} for verdicts in at_margin) / 300 <= 0.05 + 4 * 0.0126
    assert sum("FAIL" in verdicts for verdicts in equal) / 300 <= 0.05
    assert sum(verdicts == {"PASS"} for verdicts in equal) / 300 > 0.7  # and it is of use
