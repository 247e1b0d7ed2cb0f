import pytest

from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.items import ITEMS, Document, measured, read_items, scores, write_items


def text(number, bits, source="sea"):
    known = bits is not None
    return Document(
        source=source, id=f"d{number}", tokens=9, bytes=100, bits=bits, unmeasured=None if known else "bits_not_finite"
    )


def test_what_was_written_is_read_back_and_gives_the_same_bytes(tmp_path, answer):
    items = [answer(0), answer(0, mode="sampled", correct=None), text(0, 123.5)]
    assert write_items(tmp_path, items) == 3
    first = (tmp_path / ITEMS).read_bytes()
    assert list(read_items(tmp_path)) == items
    write_items(tmp_path, list(read_items(tmp_path)))
    assert (tmp_path / ITEMS).read_bytes() == first
    assert b"seconds" not in first


def test_scores_are_the_mean_over_what_was_measured(answer):
    items = [answer(n, correct=n % 4 != 0) for n in range(8)]
    items += [answer(n, mode="sampled", correct=None if n == 0 else n < 4, terse=n < 2) for n in range(8)]
    items += [text(n, 200 + n) for n in range(3)] + [text(n, 300, "land") for n in range(2)]
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
    assert (found["contract.sampled_correct"].mean, found["contract.sampled_correct"].unmeasured) == (
        round(3 / 7, 6),
        1,
    )
    assert found["contract.sampled_exact"].mean == round(1 / 7, 6)
    assert found["bits_per_byte"].mean == pytest.approx((603 + 600) / 500)
    assert (found["bits_per_byte.sea"].mean, found["bits_per_byte.sea"].higher_is_better) == (2.01, False)
    # Two documents with the same rate: a mean, and no interval that would claim to know it exactly.
    assert (found["bits_per_byte.land"].mean, found["bits_per_byte.land"].low) == (3.0, None)


def test_twelve_of_sixteen_missing_documents_leave_a_score_without_an_interval():
    found = scores(measured([text(n, None if n < 12 else 200.0 + n) for n in range(16)]), confidence=0.95)[
        "bits_per_byte"
    ]
    assert (found.low, found.high, found.items, found.unmeasured) == (None, None, 16, 12)


def test_an_item_that_occurs_twice_is_refused(answer):
    with pytest.raises(DamagedArtifact, match="expected one record an item, found 'item-1' twice"):
        measured([answer(1), answer(1)])


def test_a_record_that_is_none_is_refused(tmp_path):
    (tmp_path / ITEMS).write_text('{"kind": "answer", "suite": "x"}\n')
    with pytest.raises(DamagedArtifact, match=r"items.jsonl:1: expected an item record"):
        list(read_items(tmp_path))
