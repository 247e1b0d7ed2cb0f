import pytest

from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.metrics import measured, measures, scores


def test_scores_are_the_mean_over_what_was_measured(answer, document):
    items = [answer(n, correct=n % 4 != 0) for n in range(8)]
    items += [answer(n, mode="sampled", correct=None if n == 0 else n < 4, terse=n < 2) for n in range(8)]
    items += [document(n, 200 + n) for n in range(3)] + [document(n, 300, "land") for n in range(2)]
    found = scores(measured(items), confidence=0.95)
    assert list(found) == [
        "contract.greedy_correct",
        "contract.greedy_stopped",
        "contract.sampled_correct",
        "contract.sampled_terse",
        "contract.sampled_exact",
        "bits_per_byte",
        "bits_per_byte.land",
        "bits_per_byte.sea",
    ]
    assert found["contract.greedy_correct"].mean == 0.75
    sampled = found["contract.sampled_correct"]
    assert (sampled.mean, sampled.unmeasured) == (round(3 / 7, 6), 1)
    assert found["contract.sampled_exact"].mean == round(1 / 7, 6)
    assert found["bits_per_byte"].mean == pytest.approx((603 + 600) / 500)
    assert (found["bits_per_byte.sea"].mean, found["bits_per_byte.sea"].higher_is_better) == (2.01, False)
    # Two documents with the same rate: a mean, and no interval that would claim to know it exactly.
    assert (found["bits_per_byte.land"].mean, found["bits_per_byte.land"].low) == (3.0, None)


def test_twelve_of_sixteen_missing_documents_leave_a_score_without_an_interval(document):
    found = scores(measured([document(n, None if n < 12 else 200.0 + n) for n in range(16)]), confidence=0.95)
    whole = found["bits_per_byte"]
    assert (whole.low, whole.high, whole.items, whole.unmeasured) == (None, None, 16, 12)


def test_slices_and_clusters_are_those_of_the_records(answer):
    items = [
        answer(n).model_copy(update={"slice": ("easy", "hard")[n % 2], "cluster": f"passage-{n // 4}"})
        for n in range(8)
    ]
    found = measures(items)
    whole, hard = found["contract.greedy_correct"], found["contract.greedy_correct.hard"]
    assert (len(whole.values), len(hard.values)) == (8, 4)
    assert whole.clusters["easy/item-0"] == whole.clusters["hard/item-3"] == "passage-0"
    assert set(hard.values) < set(whole.values)


def test_an_item_that_occurs_twice_is_refused(answer):
    with pytest.raises(DamagedArtifact, match="expected one record an item, found 'item-1' twice"):
        measured([answer(1), answer(1)])


def test_records_of_an_unknown_kind_are_refused(answer):
    with pytest.raises(DamagedArtifact, match=r"expected records of a known kind \(.*contract.*\), found 'horoscope'"):
        measured([answer(1).model_copy(update={"kind": "horoscope"})])
