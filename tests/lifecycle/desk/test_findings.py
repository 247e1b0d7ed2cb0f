"""What votes add up to, on people whose habits are known."""

import pytest

from lifecycle.desk import findings, pictures

GOLD = [
    {
        "id": f"g{n}",
        "prompt": [{"role": "user", "content": f"Gold {n}?"}],
        "chosen": [{"role": "assistant", "content": f"Right, {n}."}],
        "rejected": [{"role": "assistant", "content": f"Wrong, it is something else than {n}."}],
    }
    for n in range(4)
]


def all_of(somebody, decide):
    """Decide on everything there is."""
    while 'id="vote"' in somebody.look():
        decide(somebody)


def test_somebody_who_always_takes_the_left_answer_is_seen_through(make, annotator):
    desk = make(40, repeat_share=0.2)
    all_of(annotator(desk), lambda somebody: somebody.vote("left", seconds="1.0"))
    found = findings.of(desk)
    assert found.everybody.left.value == 1.0
    assert found.everybody.left.low > 0.85
    assert found.everybody.again.value == 0.0, "sides were swapped, so nothing was decided as before"
    assert found.same_side == found.everybody.again.of == 6
    assert 0.2 < found.wins["good"].value < 0.8, "sides are drawn by chance: nobody wins by them"


def test_somebody_who_judges_is_measured_as_one_who_does(make, annotator):
    desk = make(30, repeat_share=0.2, gold=GOLD)
    for name in ("annotator-1", "annotator-2"):
        all_of(annotator(desk, name), lambda somebody: choose(somebody))
    found = findings.of(desk)
    assert found.agreement.value == 1.0
    assert found.wins["good"].value > 0.95
    assert found.everybody.longer.value == 1.0, "the good answers are the longer ones"
    assert found.everybody.again.value == 1.0
    assert found.everybody.gold[:1] + found.everybody.gold[3:] == (1.0, 8)
    assert found.judged == found.items == 30, "gold items are not counted among the pairs"
    assert [voter.votes for voter in found.voters] == [found.everybody.votes / 2] * 2
    assert {"Win rate by system", "Self-agreement and gold items"} <= {picture.title for picture in pictures.of(found)}


def choose(somebody):
    """The good answer, or the one that is right on gold."""
    page = somebody.look()
    system = "chosen" if "Gold" in page else "good"
    somebody.prefer(system)


def test_nothing_is_claimed_of_a_desk_without_votes(make):
    found = findings.of(make(5))
    assert found.agreement.value is None
    assert found.wins == {}
    assert pictures.of(found) == []


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_a_vote_for_neither_is_half_a_win_for_both(make, annotator, choice):
    desk = make(20, repeat_share=0)
    all_of(annotator(desk), lambda somebody: somebody.vote(choice))
    found = findings.of(desk)
    assert found.wins["good"].value == pytest.approx(0.5)
    assert found.everybody.left.value is None
