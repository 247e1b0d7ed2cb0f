"""Counts add up over shards, and samples are the first few whatever the shards."""

import pytest
from pydantic import ValidationError

from lifecycle.data.corpus_report import SourceStep, Tally
from lifecycle.data.documents import Document
from lifecycle.data.filters import Drop
from lifecycle.data.funnel import Funnel, Samples, passed


def test_counts_of_shards_add_up_by_step_source_and_reason():
    funnel = Funnel(["sea", "land"], samples_per_reason=0)
    funnel.add("sea", {"read": passed([3, 4], [3, 4], {}), "quality": passed([3, 4], [3], {"short": [4]})})
    funnel.add("sea", {"read": passed([5], [5], {}), "quality": passed([5], [], {"short": [5]})})
    funnel.add("land", {"read": passed([1], [], {"row_nul": [0]})})
    assert funnel.steps["quality"]["sea"] == SourceStep(
        entered=Tally(documents=3, bytes=12),
        left=Tally(documents=1, bytes=3),
        dropped={"short": Tally(documents=2, bytes=9)},
    )
    assert (funnel.read("sea"), funnel.dropped("sea"), funnel.bad_rows("sea")) == (3, {"short": 2}, 0)
    assert funnel.bad_rows("land") == 1
    assert funnel.table().splitlines()[:2] == ["  sea: read 3, dropped 2", f"    short{2:>31}"]


@pytest.mark.parametrize("reason", ["\x1b[2J", "two words", ""])
def test_a_reason_is_a_plain_name_also_in_the_report_of_a_foreign_corpus(reason):
    with pytest.raises(ValidationError):
        SourceStep(entered=Tally(), left=Tally(), dropped={reason: Tally()})


def test_the_first_samples_of_shards_in_order_are_the_first_samples_of_all():
    drops = [(Document("sea", str(n), f"text {n}"), Drop("odd" if n % 2 else "even", str(n))) for n in range(20)]
    whole = Samples(3)
    for document, drop in drops:
        whole.drop(document, drop)
    for cut in (1, 4, 19):
        merged = Samples(3)
        for first in range(0, 20, cut):
            shard = Samples(3)
            for document, drop in drops[first : first + cut]:
                shard.drop(document, drop)
            merged.take(shard.rows)
        assert merged.rows == whole.rows
    assert [row["id"] for row in whole.rows] == ["0", "1", "2", "3", "4", "5"]
