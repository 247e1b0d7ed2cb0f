from itertools import combinations

import pytest

from lifecycle.evaluation.kinds.pass_at_k import PassAtKSuite, pass_at_k

CHECKS = [{"check": "exact", "texts": ["4"]}]


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 0), (5, 2), (5, 5), (6, 1)])
def test_the_estimate_is_the_share_of_subsets_with_a_success(n, c):
    """The definition, counted out: all subsets of k samples, and those that hold a right one."""
    for k in range(1, n + 1):
        subsets = list(combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_many_samples_do_not_overflow():
    assert 0 < pass_at_k(1000, 1, 999) < 1


@pytest.fixture
def suite(tmp_path):
    return PassAtKSuite(name="sums", path=tmp_path / "sums.jsonl", samples=3)


def samples(suite, reply, said, item="r"):
    replies = [reply(text, mode="sampled", sample=n, stopped=text != "cut") for n, text in enumerate(said)]
    return suite.graded({"id": item, "checks": CHECKS}, [replies])


def test_every_sample_has_a_record_and_every_k_a_metric(suite, reply):
    items = samples(suite, reply, ["4", "5", "5"], "a") + samples(suite, reply, ["4", "4", "5"], "b")
    assert [(item.id, item.sample, item.score) for item in items][:3] == [("a", 0, 1.0), ("a", 1, 0.0), ("a", 2, 0.0)]
    found = suite.measures(items)
    assert list(found) == ["pass_at_1", "pass_at_2", "pass_at_3"]
    assert found["pass_at_1"].values == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert found["pass_at_2"].values == pytest.approx({"a": 2 / 3, "b": 1.0})


@pytest.mark.parametrize("lost", ["truncated", "missing", "twice"])
def test_an_item_with_a_sample_that_was_not_measured_is_not_measured(suite, reply, lost):
    whole = samples(suite, reply, ["4", "4", "4"], "a")
    other = samples(suite, reply, ["4", "cut" if lost == "truncated" else "4", "4"], "b")
    other = {"truncated": other, "missing": other[:2], "twice": [*other[:2], other[0]]}[lost]
    assert suite.measures(whole + other)["pass_at_1"].values == {"a": 1.0, "b": None}
