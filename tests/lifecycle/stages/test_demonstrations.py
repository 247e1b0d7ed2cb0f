"""Conversations we train on are whole, distinct and not what we score on."""

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.data import demonstrations_report as reports
from lifecycle.data.answers import AnswerRules
from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.data.demonstrations_report import DemonstrationsReport
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.row_mixture import RowMixture
from lifecycle.errors import InputError
from lifecycle.sealing import canonical
from lifecycle.stages.demonstrations import DemonstrationsConfig, curate_demonstrations


@pytest.fixture
def dev(write_rows, item):
    return write_rows("dev.jsonl", [item(500), item(501)])


def test_copies_and_held_out_items_are_dropped_and_counted(write_rows, item, suites, dev, out_dir):
    other_question = item(902, "size", 902)  # a held-out record, asked for another field
    other_question["messages"][0]["content"] = "Size?\n" + other_question["messages"][0]["content"]
    train = [
        item(1),
        item(2),
        item(1) | {"id": "copy"},
        item(1, answer='Sure: {"section": "libs"}') | {"id": "another answer"},
        item(901) | {"record": {"package": "unrelated"}},
        other_question,
        item(500),
    ]
    config = DemonstrationsConfig(train=write_rows("train.jsonl", train), dev=dev)
    demonstrations = curate_demonstrations(config, suites, out_dir=out_dir)
    assert demonstrations.dropped == {
        "train_duplicate": 1,
        "train_contaminated_prompt": 1,
        "train_contaminated_ngram": 1,
        "train_prompt_is_held_out_from_training": 1,
    }
    rows = [orjson.loads(line) for line in (out_dir / "train.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ["item-1", "item-2", "another answer"]
    assert set(rows[0]) == {"id", "source", "messages"}
    assert (demonstrations.train_rows, demonstrations.dev_rows) == (3, 2)
    assert demonstrations.suites_digest == suites.digest


def test_without_a_record_the_words_of_the_user_are_compared(write_rows, item, suites, dev, out_dir):
    def bare(number: int) -> dict:
        row = item(number)
        row["messages"][0]["content"] += "\nPlease answer."
        return {"id": row["id"], "messages": row["messages"]}

    config = DemonstrationsConfig(train=write_rows("train.jsonl", [bare(1), bare(903)]), dev=dev)
    assert curate_demonstrations(config, suites, out_dir=out_dir).dropped == {"train_contaminated_ngram": 1}


def test_one_bad_row_is_refused_naming_its_line_unless_allowed(write_rows, item, suites, dev, out_dir):
    broken = item(3)
    broken["messages"] = broken["messages"][::-1]
    train = write_rows("train.jsonl", [item(1), item(2), broken])
    with pytest.raises(InputError, match=r"train.jsonl:3: row_roles_do_not_alternate"):
        curate_demonstrations(DemonstrationsConfig(train=train, dev=dev), suites, out_dir=out_dir)
    tolerant = DemonstrationsConfig(train=train, dev=dev, max_bad_row_share=0.4)
    assert curate_demonstrations(tolerant, suites, out_dir=out_dir).dropped == {"train_row_roles_do_not_alternate": 1}


def test_training_on_the_suite_itself_is_refused(item, suites, dev, tmp_path, out_dir):
    with pytest.raises(InputError, match=r"test.jsonl:1: expected rows to keep, found 6 and dropped all"):
        curate_demonstrations(DemonstrationsConfig(train=tmp_path / "test.jsonl", dev=dev), suites, out_dir=out_dir)


def test_a_missing_file_is_refused(suites, dev, tmp_path, out_dir):
    with pytest.raises(InputError, match=r"expected a file or folder at .*nowhere"):
        curate_demonstrations(DemonstrationsConfig(train=tmp_path / "nowhere.jsonl", dev=dev), suites, out_dir=out_dir)


def asked(number: int, answer: str | None = None, **more: object) -> dict:
    """A conversation about something no other number is about."""
    words = " ".join(f"w{number}x{at}" for at in range(12))
    answer = answer or f"It is {words[::-1]}, and that is all there is to say about it."
    turns = [{"role": "user", "content": f"What is {words}?"}, {"role": "assistant", "content": answer}]
    return {"id": f"q{number}", "messages": turns, **more}


def sources(write_rows, item) -> tuple[ConversationSource, ...]:
    """A source of messages and one of ShareGPT's shape, with one row for every reason."""
    near = asked(7)
    near["messages"][1]["content"] += " Yes."
    messages = [
        *(asked(n) for n in range(40)),
        asked(3) | {"id": "copy"},
        near | {"id": "near"},
        item(901),
        {"id": "x"},
    ]
    turned = [
        {
            "id": row["id"],
            "conversations": [
                {"from": ("human", "gpt")[at], "value": turn["content"]} for at, turn in enumerate(row["messages"])
            ],
        }
        for row in [*(asked(n) for n in range(100, 160)), asked(161, "no no " * 9), asked(5) | {"id": "other source"}]
    ]
    return (
        ConversationSource(
            name="one", path=write_rows("one.jsonl", messages), licence="CC0-1.0", weight=3, max_epochs=2
        ),
        ConversationSource(name="two", path=write_rows("two.jsonl", turned), licence="CC0-1.0", weight=1, max_rows=50),
    )


def test_several_sources_are_cleaned_mixed_and_held_out_by_row_and_every_drop_is_counted(
    write_rows, item, suites, out_dir
):
    config = DemonstrationsConfig(
        sources=sources(write_rows, item),
        max_bad_row_share=0.05,
        quality=AnswerRules(),
        near_duplicates=NearDuplicates(),
        mixture=RowMixture(rows=80),
        dev_share=0.1,
    )
    found = curate_demonstrations(config, suites, out_dir=out_dir)
    assert found.dropped == {
        "train_answer_looping": 1,
        "train_beyond_mixture": 30,
        "train_contaminated_prompt": 1,
        "train_duplicate": 2,
        "train_duplicate_near": 1,
        "train_over_cap": 4,
        "train_row_of_unknown_shape": 1,
    }
    report = DemonstrationsReport.model_validate_json((out_dir / reports.REPORT).read_bytes())
    assert {name: (share.train_rows, share.share) for name, share in report.mixture.sources.items()} == {
        "one": (60, 0.75),
        "two": (20, 0.25),
    }
    assert {name: rows.rows for name, rows in report.held_out.items()} == {"one": 4, "two": 6}
    assert report.kinds["two"].shape == "sharegpt in 'conversations'"
    for step in report.steps:
        for counts in step.sources.values():
            gone = sum(tally.documents for tally in counts.dropped.values())
            assert counts.entered.documents == counts.left.documents + gone
    train, dev = ([orjson.loads(line) for line in (out_dir / f"{n}.jsonl").open("rb")] for n in ("train", "dev"))
    assert (len(train), len(dev), found.dev_rows, found.shortfalls) == (80, 10, 10, [])
    assert {row["id"] for row in train}.isdisjoint(row["id"] for row in dev)
    assert set(train[0]) == {"id", "source", "messages"}


def test_rows_of_equal_prompts_stay_on_one_side_of_the_split(write_rows, suites, out_dir):
    rows = [asked(n // 4, f"Answer {n}.") | {"id": f"r{n}"} for n in range(80)]
    source = ConversationSource(name="s", path=write_rows("rows.jsonl", rows), licence="CC0-1.0")
    found = curate_demonstrations(DemonstrationsConfig(sources=(source,), dev_share=0.25), suites, out_dir=out_dir)
    sides = [{orjson.loads(line)["messages"][0]["content"] for line in (out_dir / n).open("rb")} for n in FILES]
    assert sides[0].isdisjoint(sides[1])
    assert (found.train_rows, found.dev_rows) == (60, 20)


FILES = ("train.jsonl", "dev.jsonl")


def test_the_new_settings_change_nothing_where_nobody_asks_for_them(write_rows, item, dev):
    config = DemonstrationsConfig(train=write_rows("train.jsonl", [item(1)]), dev=dev)
    assert set(canonical(config)) == {"train", "dev", "source", "licence", "max_bad_row_share", "decontamination"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected train and dev, or sources"),
        ({"weights": (1, None), "mixture": RowMixture()}, r"expected a weight for every source .* none for \['s1'\]"),
        ({"weights": (1, 1)}, "expected a mixture by ratio behind the weights"),
        ({"names": ("s", "s"), "weights": (None, None)}, "expected sources with different names"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(write_rows, settings, message):
    names, weights = settings.pop("names", ("s0", "s1")), settings.pop("weights", ())
    file = write_rows("rows.jsonl", [asked(1)])
    made = tuple(
        ConversationSource(name=name, path=file, licence="CC0-1.0", weight=weight)
        for name, weight in zip(names, weights, strict=False)
    )
    with pytest.raises(ValidationError, match=message):
        DemonstrationsConfig(sources=made, **settings)
