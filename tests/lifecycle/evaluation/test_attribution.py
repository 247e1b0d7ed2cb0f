"""A difference between two models, shared out over the stages between them."""

import pytest

from lifecycle.evaluation.attribution import Rung, accounted, effects
from lifecycle.evaluation.evidence import Share
from lifecycle.evaluation.quantities import Rate

ITEMS = 200


def rung(name: str, right: int, *, checkpoint: str | None = None, items: int = ITEMS) -> Rung:
    """A model that answers the first `right` items."""
    answers = Share({f"item-{number}": number < right for number in range(items)})
    return Rung(name, checkpoint or name, {"exact": answers})


def test_the_stage_that_makes_the_difference_is_named_with_its_interval_and_the_values_add_up():
    """60 of 200 right, then 160 with the good sft, then 158 with the good preference: +0.50, -0.01, together +0.49."""
    found = effects([rung("bad", 60), rung("sft", 160), rung("preference", 158)], ["exact"], confidence=0.95)
    assert [(e.stage, round(e.value, 4), e.is_shown) for e in found] == [
        ("sft", 0.5, True),
        ("preference", -0.01, False),
        ("all", 0.49, True),
    ]
    assert found[0].low < 0.5 < found[0].high
    assert found[0].value + found[1].value == pytest.approx(found[2].value)
    assert accounted(found, "exact").startswith("exact: sft moves it by +0.5000 [+0.")
    assert "preference" not in accounted(found, "exact")


def test_the_values_add_up_and_lie_in_their_intervals_where_items_of_the_bad_run_are_missing():
    """The bad run's 60 hardest items are missing: of the pairs that are left alone, it would be +0.61 and not +0.43."""
    hard = Share({f"item-{n}": None if n >= 140 else False for n in range(ITEMS)})
    found = effects(
        [Rung("bad", "bad", {"exact": hard}), rung("sft", 76), rung("preference", 86)], ["exact"], confidence=0.95
    )
    assert [round(effect.value, 2) for effect in found] == [0.38, 0.05, 0.43]
    assert all(effect.low <= effect.value <= effect.high for effect in found)


def test_lower_is_better_for_bits():
    def bits(name: str, more: float) -> Rung:
        return Rung(name, name, {"bits": Rate({f"d{n}": (200.0 + n % 7 + more + n % 3, 100) for n in range(40)})})

    found = effects([bits("bad", 30), bits("sft", 0)], ["bits"], confidence=0.95)
    assert accounted(found, "bits").endswith("], for the better") is found[0].is_shown


def test_one_stage_alone_is_all_there_is():
    (only,) = effects([rung("bad", 60), rung("preference", 160)], ["exact"], confidence=0.95)
    assert (only.stage, only.value) == ("preference", 0.5)


def test_the_more_is_asked_the_wider_the_intervals():
    """Bonferroni: what holds together at 95 % holds alone at more."""
    two = [rung("bad", 60), rung("sft", 160)]
    (alone,) = effects(two, ["exact"], confidence=0.95)
    among = effects([*two, rung("preference", 160)], ["exact"], confidence=0.95)[0]
    assert among.low < alone.low < alone.high < among.high


def test_a_stage_that_gives_the_same_weights_moves_nothing_and_that_is_certain():
    found = effects([rung("bad", 60), rung("corpus", 60, checkpoint="bad")], ["exact"], confidence=0.95)
    assert (found[0].value, found[0].low, found[0].high, found[0].is_shown) == (0.0, 0.0, 0.0, False)
    assert accounted(found, "exact") == "exact: no stage is shown to move it"


def test_what_was_not_measured_accounts_for_nothing():
    no_metric = effects([rung("bad", 60), rung("sft", 160)], ["bits"], confidence=0.95)
    assert no_metric[0].fault == "the report of sft has no metric 'bits'"
    assert not no_metric[0].is_shown
    assert accounted(no_metric, "bits") == "bits: cannot tell, sft could not be compared"
    other_items = effects([rung("bad", 60), rung("sft", 160, items=150)], ["exact"], confidence=0.95)
    assert "different items" in other_items[0].fault
