"""Plans against the formula worked by hand, and rates against those stated."""

from dataclasses import replace

import numpy as np
import pytest

from lifecycle.evaluation.evidence import Share
from lifecycle.evaluation.pilot import Pilot, pilot
from lifecycle.evaluation.power import course, needed, outcome, simulate
from lifecycle.evaluation.quantities import Mean, Rate
from lifecycle.evaluation.rules import Ceiling, Floor, Guard, Target

GUARDS = [Pilot(Guard(metric=f"s{n}.m", margin=0.05), spread=0.2**0.5, changed=0.2) for n in range(5)]


def share(right, items, clusters=None):
    return Share({f"i{n}": n < right for n in range(items)}, clusters or {})


def test_items_are_where_both_bounds_meet():
    # z(0.05) = 1.645 and z(0.05 / 5) = 2.326: (3.971)^2 * 0.2 / 0.05^2 = 1261.6
    assert needed(GUARDS, 0.05, looks=1) == [1262] * 5
    # Looking ten times costs a fifth more at the cap, and saves half on average.
    assert needed(GUARDS, 0.05, looks=10)[0] == pytest.approx(1262 * 1.21, rel=0.02)


def test_passages_and_missing_items_cost_items():
    alone, in_step = GUARDS[0], replace(GUARDS[0], effect=2.5)
    holey, hopeless = replace(GUARDS[0], missing=0.01), replace(GUARDS[0], missing=0.025)
    plans = needed([alone, in_step, holey, hopeless], 0.05, looks=1)
    assert plans[1] == pytest.approx(2.5 * plans[0], abs=2)
    assert plans[2] == pytest.approx(plans[0] * (0.05 / 0.03) ** 2, abs=2)
    assert plans[3] is None, "no number of items sees through 2.5 % missing on either side of 5 points"


@pytest.mark.parametrize("looks", [1, 10])
def test_a_planned_policy_keeps_its_rates(looks):
    """400 histories: within four standard errors of 5 %."""
    guards = [
        replace(each, rule=each.rule.model_copy(update={"items": items}))
        for each, items in zip(GUARDS, needed(GUARDS, 0.05, looks), strict=True)
    ]
    rates = simulate(guards, 0.05, looks, histories=400)
    slack = 4 * (0.05 * 0.95 / 400) ** 0.5
    equal, at_bar = rates["as good as asked"], rates["at the bar of guard s0.m"]
    beyond = rates["beyond the bar of guard s0.m"]
    assert equal.promoted > 0.95 - slack
    assert equal.blocked < 0.05 + slack
    assert at_bar.promoted < 0.05 + slack
    assert beyond.blocked == 1
    assert max(rate.inconclusive for rate in rates.values()) < 0.1
    assert equal.items < (0.65 if looks > 1 else 1.001)


def test_a_pilot_is_read_from_two_reports_or_guessed_from_one():
    live, now = share(80, 100), share(90, 100)
    found = pilot(Guard(metric="m", margin=0.05), {"m": now}, {"m": live})
    assert (found.changed, found.available) == (0.1, 100)
    alone = pilot(Guard(metric="m", margin=0.05), {"m": now}, None)
    assert alone.changed == pytest.approx(2 * 0.9 * 0.1)
    assert alone.spread == pytest.approx((2 * 0.9 * 0.1) ** 0.5)
    assert "no report has the metric 'x'" in pilot(Floor(metric="x", at_least=0.5), {"m": now}, None)


def test_a_floor_is_planned_for_the_model_that_was_seen_and_a_ceiling_too():
    found = pilot(Floor(metric="m", at_least=0.8), {"m": share(90, 100)}, None)
    assert (found.room, found.width) == (pytest.approx(0.1), pytest.approx(0.1))
    bits = Rate({f"d{n}": (200.0 + n, 100) for n in range(50)})
    found = pilot(Ceiling(metric="b", at_most=3.0), {"b": bits}, None)
    assert found.room == pytest.approx(3.0 - bits.value)
    assert found.spread == pytest.approx(np.std(np.arange(50)) / 100)


def test_scores_with_less_spread_need_fewer_items():
    right = pilot(Guard(metric="m", margin=0.05), {"m": share(40, 100)}, {"m": share(60, 100)})
    scores = [Mean({f"i{n}": 0.5 + 0.004 * (n * step % 50) for n in range(100)}, bounds=(0, 1)) for step in (1, 3)]
    soft = pilot(Target(metric="m", by=0.05), {"m": scores[0]}, {"m": scores[1]})
    plans = needed([right, soft], 0.05, looks=1)
    assert plans[1] < plans[0] / 3


def test_what_holds_first_holds_and_what_breaks_first_stops_everything():
    no, yes = [False] * 3, [False, True, True]
    late = [False, False, True]
    held, broken = np.array([yes, late, no, late]), np.array([late, yes, no, late])
    first = course(held, broken)
    assert first.held.tolist() == [1, 2, 3, 2]
    assert first.broken.tolist() == [3, 1, 3, 3]  # the last holds and breaks at one look: it holds
    promoted, blocked, stops = outcome([first], 3)
    assert promoted.tolist() == [True, False, False, True]
    assert blocked.tolist() == [False, True, False, False]
    assert stops.tolist() == [[2, 2, 3, 3]]


def test_a_score_with_bounds_is_planned_for_losses_that_few_items_carry():
    """Items that hardly differ: 4 would do by their spread, but a loss of 5 points may lie on one item in 20."""
    still = Pilot(Guard(metric="m", margin=0.05), spread=0.02, bounds=(-1.0, 1.0))
    (items,) = needed([still], 0.05, looks=1)
    assert 60 < items < 130
    wide = Pilot(Guard(metric="m", margin=0.05), spread=0.3, bounds=(-1.0, 1.0))
    assert needed([wide], 0.05, looks=1)[0] == pytest.approx((2 * 1.645 * 0.3 / 0.05) ** 2, rel=0.25)
    rates = simulate([replace(still, rule=still.rule.model_copy(update={"items": items}))], 0.05, 1, histories=200)
    assert rates["as good as asked"].promoted > 0.95
    assert rates["at the bar of guard m"].promoted == 0


def test_documents_are_planned_for_the_one_look_they_have():
    bits = Pilot(Guard(metric="bits_per_byte", margin=0.1), spread=0.5)
    assert needed([bits], 0.05, looks=10) == needed([bits], 0.05, looks=1)
    planned = [replace(bits, rule=bits.rule.model_copy(update={"items": 400})), replace(GUARDS[0])]
    planned[1] = replace(planned[1], rule=planned[1].rule.model_copy(update={"items": 1600}))
    rates = simulate(planned, 0.05, 10, histories=400)
    assert rates["as good as asked"].promoted > 0.9
    assert rates["at the bar of guard bits_per_byte"].promoted < 0.1
    assert rates["beyond the bar of guard bits_per_byte"].items < 0.35, "blocked at the first look"
