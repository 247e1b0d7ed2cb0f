"""From rows of answers to pairs."""

import orjson
import pytest

from lifecycle.desk.items import load_items, pair_up, read_answers, read_gold, save_items
from lifecycle.errors import InputError

PROMPT = [{"role": "user", "content": "Name a city."}]


@pytest.fixture
def write(tmp_path):
    """A file of these rows."""

    def write(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return path

    return write


def answers(*texts, **more):
    return {"prompt": PROMPT, "answers": [{"content": text} for text in texts], **more}


def test_answers_of_two_checkpoints_are_paired_across_them(write):
    a = write(answers("Rome", "Oslo", checkpoint="aaa"), name="a")
    b = write(answers("Rome", "Bern", checkpoint="bbb"), name="b")
    items, left_out = pair_up(read_answers([a, b]), per_prompt=9)
    pairs = {frozenset((one.system, one.content) for one in item.answers) for item in items}
    assert pairs == {
        frozenset({("aaa", "Rome"), ("bbb", "Bern")}),
        frozenset({("aaa", "Oslo"), ("bbb", "Rome")}),
        frozenset({("aaa", "Oslo"), ("bbb", "Bern")}),
    }
    assert left_out == {"same answer": 1}


def test_answers_of_one_system_are_paired_with_each_other_up_to_a_number(write):
    path = write(answers("Rome", "Oslo", "Bern", " Rome\n"))
    items, left_out = pair_up(read_answers([path]), per_prompt=2)
    assert len(items) == 2
    assert left_out == {"same answer": 1, "enough pairs of the prompt": 3}
    assert pair_up(read_answers([path]), per_prompt=2)[0] == items, "the same answers give the same items"


def test_how_an_answer_was_drawn_stays_with_it_and_items_survive_the_disk(write, tmp_path):
    drawn = {"seed": 7, "temperature": 0.7, "tokens": 3, "logprob": -1.5}
    path = write(
        {"prompt": PROMPT, "answers": [{"content": "Rome", **drawn}, {"content": "", **drawn}], "checkpoint": "c"}
    )
    items, _ = pair_up(read_answers([path]), per_prompt=1)
    save_items(tmp_path / "items.jsonl", items)
    (item,) = load_items(tmp_path / "items.jsonl").values()
    assert item == items[0]
    assert {answer.content for answer in item.answers} == {"Rome", ""}, "an empty answer is one"
    assert all(answer.drawn == drawn for answer in item.answers)


def test_pairs_of_a_comparisons_file_are_systems_called_chosen_and_rejected(write):
    said = {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "Rome"), ("rejected", "Mars"))}
    items, _ = pair_up(read_answers([write({"id": "1", "prompt": PROMPT, **said})]), per_prompt=1)
    assert {answer.system: answer.content for answer in items[0].answers} == {"chosen": "Rome", "rejected": "Mars"}
    (gold,) = read_gold(write({"id": "1", "prompt": PROMPT, **said}))
    assert gold.answers[gold.better].content == "Rome"
    assert gold.id != items[0].id, "a gold item is another item than the question itself"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"prompt": PROMPT}, "row_no_answers"),
        ({"prompt": PROMPT, "answers": [{"content": 7}]}, "row_wrong_type"),
        ({"prompt": PROMPT, "answers": ["Rome"]}, "row_bad_answer"),
        ({"prompt": PROMPT, "answers": [{"content": "a\0b"}]}, "row_nul"),
        ({"prompt": [{"role": "assistant", "content": "hello"}], "answers": [{"content": "x"}]}, "row_roles"),
        (answers("x", checkpoint=3), "row_bad_checkpoint"),
    ],
)
def test_a_bad_row_is_named_by_its_line(write, row, fault):
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{fault}"):
        read_answers([write(answers("Rome", "Oslo"), row)])


def test_which_answer_is_the_first_says_nothing_of_its_system(write):
    """Not even where every prompt has the same two answers, as in a task of yes and no."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{n}?"}],
            "answers": [{"content": "yes", "system": "a"}, {"content": "no", "system": "b"}],
        }
        for n in range(200)
    ]
    items, _ = pair_up(read_answers([write(*rows)]), per_prompt=1)
    assert 75 <= sum(item.answers[0].system == "a" for item in items) <= 125
