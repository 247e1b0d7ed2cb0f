import pytest

from lifecycle.evaluation.evidence import Share, difference
from lifecycle.evaluation.quantities import Mean, Rate
from lifecycle.evaluation.statistics import clopper_pearson, paired


def shares(*right):
    return Share({f"i{n}": value for n, value in enumerate(right)})


def rates(*bits, size=100):
    return Rate({f"d{n}": None if b is None else (b, size) for n, b in enumerate(bits)})


def test_an_unmeasured_item_counts_neither_as_right_nor_as_wrong_nor_as_absent():
    found = shares(True, True, False, None)
    assert (found.value, found.items, found.unmeasured) == (2 / 3, 4, 1)
    assert found.interval(0.05).low == clopper_pearson(2, 4, tail=0.05).low  # at worst it was wrong
    assert found.interval(0.05).high == clopper_pearson(3, 4, tail=0.05).high  # at best it was right


@pytest.mark.parametrize("empty", [shares(), shares(None, None), rates(), rates(None)])
def test_nothing_measured_is_a_fault(empty):
    assert empty.value is None
    assert "it has no" in empty.fault or "could be measured" in empty.fault


def test_a_difference_is_paired_by_item():
    before, now = shares(True, True, False, False), shares(True, False, True, False)
    found = difference(now, before, same_model=False)
    assert (found.value, found.gained, found.worse_items) == (0.0, 1, ["i1"])
    assert found.interval(0.05) == paired(1, 1, 4, tail=0.05)


def test_a_pair_with_a_missing_side_widens_the_difference():
    now, before = shares(None, True, True), shares(True, None, True)
    low, high = difference(now, before, same_model=False).interval(0.05)
    # Against the candidate: it was wrong where live was right (lost), live was right where it was right (unchanged).
    assert (low, high) == (paired(0, 1, 3, tail=0.05).low, paired(1, 0, 3, tail=0.05).high)


def test_other_items_are_a_fault():
    before = Share({"i0": True, "elsewhere": True})
    assert "2 of them in one only, like 'elsewhere'" in difference(shares(True, True), before, same_model=False).fault


def test_bits_have_no_bound_so_one_missing_document_is_a_fault():
    assert rates(200, 250, None).fault == "1 of 3 documents could not be measured, and bits have no bound"
    assert rates(200, 250, None).value == 2.25
    assert "1 of 3" in difference(rates(200, 250, None), rates(200, 250, 200), same_model=False).fault


def test_a_rate_without_spread_is_a_fault_unless_it_is_the_same_model():
    same = rates(200, 250)
    assert "without any spread" in difference(same, same, same_model=False).fault
    assert difference(same, same, same_model=True).fault is None
    assert difference(same, same, same_model=True).interval(0.05) == (0.0, 0.0)
    assert "without any spread" in rates(200).fault
    assert "without any spread" in rates(200, 200).fault


def test_documents_that_cost_more_come_first():
    found = difference(rates(200, 260, 230, 150), rates(200, 250, 200, 200), same_model=False)
    assert found.worse_items == ["d2", "d1"]
    assert found.value == pytest.approx(-10 / 400)


def means(*scores, bounds=(0.0, 1.0), clusters=None):
    return Mean({f"i{n}": score for n, score in enumerate(scores)}, clusters or {}, bounds=bounds)


def test_a_missing_score_stands_at_its_bounds_and_without_bounds_is_a_fault():
    scores = [0.2, 0.4, 0.6, 0.8] * 10
    low, high = means(*scores, None).interval(0.05)
    assert low == means(*scores, 0.0).interval(0.05).low
    assert high == means(*scores, 1.0).interval(0.05).high
    unbounded = means(*scores, None, bounds=(-float("inf"), float("inf")))
    assert unbounded.fault == "1 of 41 items could not be measured, and the score has no bound"


def test_a_difference_of_scores_is_paired_and_names_the_worst_first():
    found = difference(means(0.5, 0.2, 0.9, None), means(0.6, 0.6, 0.6, 0.6), same_model=False)
    assert (found.value, found.unmeasured) == (pytest.approx(-0.2 / 3), 1)
    assert found.worse_items == ["i1", "i0"]
    filled = difference(means(0.5, 0.2, 0.9, 0.0), means(0.6, 0.6, 0.6, 0.6), same_model=False)
    assert found.interval(0.05).low == filled.interval(0.05).low


def test_clusters_widen_every_kind_of_interval():
    scores = [n // 10 % 2 == 0 for n in range(100)]  # ten passages, all their items right or all wrong
    passages = {f"{kind}{n}": f"p{n // 10}" for n in range(100) for kind in "id"}
    for alone, together in (
        (shares(*scores), Share(shares(*scores).right, passages)),
        (means(*map(float, scores)), means(*map(float, scores), clusters=passages)),
        (rates(*(100 + 50 * s for s in scores)), Rate(rates(*(100 + 50 * s for s in scores)).documents, passages)),
    ):
        narrow, wide = alone.interval(0.05), together.interval(0.05)
        assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
        assert (alone.independent, together.independent) == (100, 10)


@pytest.mark.parametrize(
    "broken",
    [
        means(0.5, 0.6, float("nan")),
        means(0.5, 0.6, float("inf"), bounds=(-float("inf"), float("inf"))),
        means(0.5, 0.6, 1000.0),
        rates(200, 210, float("nan")),
        rates(200, 210, -5000.0),
        Rate({"d0": (200.0, 100), "d1": (210.0, 0)}),
    ],
)
def test_a_value_that_cannot_be_is_a_fault_alone_and_in_a_difference(broken):
    assert "which" in broken.fault
    sound = means(0.5, 0.6, 0.7) if isinstance(broken, Mean) else Rate(dict.fromkeys(broken.sums, (200.0, 100)))
    for pair in ((broken, sound), (sound, broken)):
        assert "which" in difference(*pair, same_model=False).fault


def test_one_passage_gives_no_interval():
    found = Share(shares(True, False, True).right, dict.fromkeys(("i0", "i1", "i2"), "p"))
    assert found.fault == "all 3 items share one passage, and one passage gives no interval"


def test_an_item_of_another_size_in_the_two_reports_is_another_text():
    found = difference(rates(200, 250), rates(200, 260, size=101), same_model=False)
    assert found.fault == "document 'd0' weighs 100 in one report and 101 in the other"
