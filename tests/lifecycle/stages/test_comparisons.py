"""Pairs we train on differ, do not contradict each other, and are not about what we score on."""

import orjson
import pytest

from lifecycle.data.comparisons_report import REPORT, lengths_of
from lifecycle.errors import InputError
from lifecycle.recipes.tiny import tiny
from lifecycle.sealing import canonical
from lifecycle.stages.comparisons import ComparisonsConfig, ComparisonSource, curate_comparisons

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
    assert lengths_of(pairs).shorter_is_chosen == (1 + 1 + 0 + 0.5) / 4


def test_a_pair_of_equal_answers_is_refused_naming_its_line(write_rows, pair, suites, heldout, out_dir):
    train = write_rows("train.jsonl", [pair(1), pair(2, "{}", "{} ")])
    with pytest.raises(InputError, match=r"train.jsonl:2: row_same_answer"):
        curate_comparisons(ComparisonsConfig(train=train, heldout=heldout), suites, out_dir=out_dir)


def ask(item, number: int, *, ranks=None, rating=None) -> dict:
    row = {"id": f"row-{number}", "prompt": item(number)["messages"][:1]}
    texts = [f"answer {letter} to {number}" for letter in "abc"]
    if ranks is not None:
        return row | {"answers": texts, "ranks": ranks}
    return row | {"answer": texts[int(rating) % 3], "rating": rating, "id": f"row-{number}-{rating}"}


def test_rankings_and_ratings_give_the_widest_gaps_first_and_no_ties(item, write_rows, suites, out_dir):
    train = write_rows(
        "said.jsonl",
        [ask(item, n, ranks=[2, 1, 1]) for n in range(1, 20)] + [ask(item, 40, rating=r) for r in (0.0, 1.0, 5.0)],
    )
    config = ComparisonsConfig(train=train, pairs_per_prompt=2, heldout_share=0.2)
    made = curate_comparisons(config, suites, out_dir=out_dir)
    rows = [orjson.loads(line) for name in ("train", "heldout") for line in (out_dir / f"{name}.jsonl").open("rb")]
    assert made.train_pairs + made.heldout_pairs == len(rows) == 19 * 2 + 2
    ranked = [row for row in rows if row["id"].startswith("row-1-")]
    assert {row["rejected"][0]["content"] for row in ranked} == {"answer a to 1"}
    report = orjson.loads((out_dir / REPORT).read_bytes())
    assert report["positions"] == {"shown": 38, "first_won": 0}
    assert report["warnings"][-1].startswith("position_is_a_signal: the answer shown first won 0% of 38 pairs")
    sides = [
        {row["prompt"][0]["content"] for row in map(orjson.loads, (out_dir / f).open("rb"))}
        for f in ("train.jsonl", "heldout.jsonl")
    ]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"answers": ["a", "b"], "ranks": [1]}, "row_answers_without_ranks"),
        ({"answers": ["a"], "ranks": [1]}, "row_one_answer"),
        ({"answers": ["a", "b"], "ranks": [1, "2"]}, "row_no_number"),
        ({"answer": "a", "rating": True}, "row_no_number"),
        ({"answer": "", "rating": 1}, "row_no_text"),
    ],
)
def test_a_row_that_judges_nothing_is_refused_by_its_line(row, fault, item, write_rows, suites, out_dir):
    train = write_rows("said.jsonl", [{"id": "r", "prompt": item(1)["messages"][:1], **row}])
    with pytest.raises(InputError, match=rf"said.jsonl:1: {fault}"):
        curate_comparisons(ComparisonsConfig(train=train), suites, out_dir=out_dir)
    assert not (out_dir / "train.jsonl").exists()


def test_sources_keep_their_names_and_are_counted(write_rows, pair, suites, heldout, out_dir):
    desk = write_rows("desk.jsonl", [pair(n) for n in range(100, 130)])
    config = ComparisonsConfig(
        train=write_rows("train.jsonl", [pair(n) for n in range(1, 30)]),
        heldout=heldout,
        sources=(ComparisonSource(name="desk", path=desk, licence="ours"),),
    )
    curate_comparisons(config, suites, out_dir=out_dir)
    report = orjson.loads((out_dir / REPORT).read_bytes())["sources"]
    assert report["desk"]["train"] + report["desk"]["heldout"] == 30
    assert report[""]["train"] == 29
    rows = [orjson.loads(line) for line in (out_dir / "train.jsonl").open("rb")]
    assert "source" not in rows[0]
    assert rows[-1]["id"].startswith("desk/")
    assert rows[-1]["source"] == "desk"


@pytest.fixture
def graded(pair):
    """A pair that a verifier can decide: the terse answer is the better one."""

    def make(number: int, *, swapped: bool = False) -> dict:
        right, chatty = '{"section": "libs"}', LONG
        sides = (chatty, right) if swapped else (right, chatty)
        return pair(number, *sides) | {"field": "section", "value": "libs"}

    return make


@pytest.mark.parametrize(
    ("swapped", "said"),
    [(range(1, 101), "100 of 100 .100%.*look swapped"), (range(1, 101, 7), "15 of 100 .15%.*labels look wrong")],
)
def test_labels_that_a_verifier_contradicts_are_refused(swapped, said, graded, write_rows, suites, heldout, out_dir):
    """Swapped labels; and 30 % random ones, of which half come out wrong."""
    rows = [graded(n, swapped=n in swapped) for n in range(1, 101)]
    config = ComparisonsConfig(train=write_rows("train.jsonl", rows), heldout=heldout)
    with pytest.raises(InputError, match=f"labels_contradict_verifier.*{said}"):
        curate_comparisons(config, suites, out_dir=out_dir)
    assert not (out_dir / "train.jsonl").exists()


def warnings_of(rows, write_rows, suites, heldout, out_dir, **settings) -> list[str]:
    config = ComparisonsConfig(train=write_rows("train.jsonl", rows), heldout=heldout, **settings)
    curate_comparisons(config, suites, out_dir=out_dir)
    return [line.partition(":")[0] for line in orjson.loads((out_dir / REPORT).read_bytes())["warnings"]]


def test_length_as_the_only_signal_is_warned_of(write_rows, pair, suites, heldout, out_dir):
    rows = [pair(n, "yes " * (n + 5), "no " * (n + 1)) for n in range(1, 60)]
    assert "length_is_the_signal" in warnings_of(rows, write_rows, suites, heldout, out_dir)


def test_a_reward_that_likes_one_phrase_is_warned_of_by_the_phrase(write_rows, pair, suites, heldout, out_dir):
    rows = [
        pair(n, f"Great question! It is {n}" if n % 5 else f"it is {n}", f"it may be {n} {n}") for n in range(1, 60)
    ]
    assert warnings_of(rows, write_rows, suites, heldout, out_dir) == ["phrase_is_the_signal"]


def test_prompts_of_the_evaluation_are_dropped_and_named(write_rows, pair, suites, heldout, out_dir):
    rows = [pair(n, f"{n}" * (1 + n % 3), f"{n} or so" if n % 2 else "x") for n in (1, 2, 3, 904)]
    assert warnings_of(rows, write_rows, suites, heldout, out_dir) == ["asks_evaluation_items"]


def test_a_set_made_from_the_evaluation_is_refused(write_rows, pair, suites, heldout, out_dir):
    train = write_rows("train.jsonl", [pair(n) for n in [*range(1, 60), 900, 901, 902, 903]])
    with pytest.raises(InputError, match=r"asks_evaluation_items: expected at most 5% .* found 4 of 64 \(6%\)"):
        curate_comparisons(ComparisonsConfig(train=train, heldout=heldout), suites, out_dir=out_dir)
    allowed = ComparisonsConfig(train=train, heldout=heldout, max_contaminated_share=0.07)
    assert curate_comparisons(allowed, suites, out_dir=out_dir).train_pairs == 59


def test_tinys_pairs_keep_their_identity_and_bytes(out_dir, suites):
    config = tiny().comparisons
    assert set(canonical(config)) == {"train", "heldout", "licence", "max_bad_row_share", "decontamination"}
    made = curate_comparisons(config, suites, out_dir=out_dir)
    assert (made.train_pairs, made.heldout_pairs, made.length_alone_predicts) == (1000, 200, 0.955)
    assert orjson.loads((out_dir / REPORT).read_bytes())["warnings"] == []
    assert made.manifest.files["train.jsonl"].sha256[:12] == "7db47bbbaad6"
