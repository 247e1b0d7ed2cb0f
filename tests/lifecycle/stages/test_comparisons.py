"""Pairs we train on differ, do not contradict each other, and are not about what we score on."""

import orjson
import pytest

from lifecycle.errors import InputError
from lifecycle.stages.comparisons import ComparisonsConfig, curate_comparisons, length_alone_predicts

LONG = 'Sure, here it is: {"section": "libs"}'


@pytest.fixture
def pair(item):
    def make(number: int, chosen: str = "{}", rejected: str = LONG) -> dict:
        row = item(number)
        sides = {"chosen": chosen, "rejected": rejected}
        answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
        return {"id": f"pair-{number}", "record": row["record"], "prompt": row["messages"][:1], **answers, "rule": "x"}

    return make


@pytest.fixture
def heldout(write_rows, pair):
    return write_rows("heldout.jsonl", [pair(500)])


def test_copies_contradictions_and_held_out_items_are_dropped_and_counted(write_rows, pair, suites, heldout, out_dir):
    train = [
        pair(1),
        pair(2, LONG, "{}"),
        pair(1) | {"id": "copy"},
        pair(3),
        pair(3, LONG, "{}") | {"id": "opposite"},
        pair(904),
        pair(500),
    ]
    config = ComparisonsConfig(train=write_rows("train.jsonl", train), heldout=heldout)
    comparisons = curate_comparisons(config, suites, out_dir=out_dir)
    assert comparisons.dropped == {
        "train_contaminated_prompt": 1,
        "train_contradiction": 2,
        "train_duplicate": 1,
        "train_prompt_is_held_out_from_training": 1,
    }
    rows = [orjson.loads(line) for line in (out_dir / "train.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ["pair-1", "pair-2"]
    assert set(rows[0]) == {"id", "prompt", "chosen", "rejected"}
    assert (comparisons.train_pairs, comparisons.heldout_pairs, comparisons.length_alone_predicts) == (2, 1, 0.5)


def test_what_length_alone_predicts(pair):
    pairs = [pair(1, "a", "bb"), pair(2, "a", "bb"), pair(3, "aa", "b"), pair(4, "a", "b")]
    assert length_alone_predicts(pairs) == (1 + 1 + 0 + 0.5) / 4


def test_a_pair_of_equal_answers_is_refused_naming_its_line(write_rows, pair, suites, heldout, out_dir):
    train = write_rows("train.jsonl", [pair(1), pair(2, "{}", "{} ")])
    with pytest.raises(InputError, match=r"train.jsonl:2: row_same_answer"):
        curate_comparisons(ComparisonsConfig(train=train, heldout=heldout), suites, out_dir=out_dir)
