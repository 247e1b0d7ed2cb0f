"""Who sees what, and when again."""

import random
from collections import Counter
from itertools import count

import pytest

from lifecycle.desk.turns import APART, BLOCK, Turns
from lifecycle.desk.votes import Votes


def vote_through(desk, who, *, choice="left", turns=None, stop=None):
    """Everything somebody is shown, each decided at once."""
    turns, seen = turns or desk.turns, []
    for number in count():
        shown = desk.votes.show(who, lambda database: turns.next(who, database))
        if shown is None or len(seen) == stop:
            return seen
        seen.append(shown)
        desk.votes.cast(f"{who}-{number}", who, shown.number, choice)
    return seen


def test_everybody_sees_every_item_once_and_a_tenth_again_with_sides_swapped(make):
    desk = make(50, repeat_share=0.1)
    seen = vote_through(desk, "ann")
    first = [one for one in seen if one.repeats is None]
    again = [one for one in seen if one.repeats is not None]
    assert Counter(one.item for one in first) == Counter(dict.fromkeys(desk.items, 1))
    assert len(again) == int(0.1 * (50 - APART))
    by_number = {one.number: (place, one) for place, one in enumerate(seen)}
    for place, one in ((place, one) for place, one in enumerate(seen) if one.repeats):
        before, original = by_number[one.repeats]
        assert original.item == one.item
        assert original.left == 1 - one.left
        assert place - before >= APART


def test_the_progress_that_is_promised_is_the_one_that_comes(make):
    desk = make(50, repeat_share=0.2)
    promised = desk.votes.read(lambda database: desk.turns.asked("ann", database))
    assert promised == (0, len(vote_through(desk, "ann")))
    assert desk.votes.read(lambda database: desk.turns.asked("ann", database)) == (promised[1], promised[1])


def test_two_people_who_stop_early_have_judged_mostly_the_same_items(make):
    desk = make(200)
    stop = 2 * BLOCK
    ann, bob = ({one.item for one in vote_through(desk, who, stop=stop)} for who in ("ann", "bob"))
    assert len(ann & bob) >= 0.8 * stop
    assert desk.turns.order("ann") != desk.turns.order("bob"), "not in the same order"


def test_an_item_goes_to_as_many_people_as_asked_and_a_skip_makes_room(make):
    desk = make(12, votes_per_item=2, repeat_share=0)
    assert len(vote_through(desk, "skipper", choice="skip")) == 12
    assert [len(vote_through(desk, who)) for who in ("ann", "bob", "late")] == [12, 12, 0]


def test_a_gold_item_goes_to_everybody_however_few_people_a_pair_is_for_and_comes_once(make):
    said = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    gold = [{"id": f"g{n}", "prompt": [{"role": "user", "content": f"Gold {n}?"}], **said} for n in range(3)]
    desk = make(30, votes_per_item=1, repeat_share=0.5, gold=gold)
    known = {name for name, item in desk.items.items() if item.better is not None}
    assert len(known) == 3
    for who in ("ann", "bob", "late"):
        assert Counter(one.item for one in vote_through(desk, who) if one.item in known) == dict.fromkeys(known, 1)


def test_sides_are_drawn_evenly(make):
    desk = make(200, repeat_share=0)
    chance = random.Random(3)
    turns = Turns(desk.items, seed=0, repeat_share=0, votes_per_item=None, chance=chance)
    left = sum(one.left for one in vote_through(desk, "ann", turns=turns))
    assert 80 <= left <= 120


def test_what_is_open_is_shown_again_to_whoever_comes_back(make, tmp_path):
    desk = make(20)
    first = desk.votes.show("ann", lambda database: desk.turns.next("ann", database))
    reopened = Votes(desk.votes.path)
    assert reopened.show("ann", lambda database: pytest.fail("nothing new is chosen")) == first
