"""Guesses come from the prompt and from the pilot that is most like it, and stop where they are not worth it."""

from lifecycle.evaluation.drafts import EACH, FIRST, PILOTS, WORTH, Drafts, Tally, as_text, pilots_of

STOP = 2


def prompt(field, value):
    """Ids of `give FIELD of {other: 8, FIELD: VALUE}`."""
    return [100, field, 101, 102, 8, 103, field, 104, value, 105, 106]


def answer(field, value):
    return [102, field, 104, value, 105, STOP]


PAIRS = [(prompt(field, value), answer(field, value)) for field in (40, 41) for value in (50, 51, 52)]


def test_an_answer_is_guessed_from_the_like_pilot_and_its_value_from_the_prompt():
    drafts = Drafts(PAIRS)
    text = as_text(prompt(41, 77))
    assert drafts.after(text, "", drafts.like(text), FIRST) == [102, 41, 104, 77, 105, 106]  # all but the end
    assert drafts.after(text, as_text([102, 41]), drafts.like(text), 2) == [104, 77]
    assert drafts.worth


def test_a_pilot_that_says_something_else_is_left_behind():
    drafts = Drafts(PAIRS)
    like = drafts.like(as_text(prompt(40, 60)))
    assert drafts.after(as_text([1, 1, 1]), as_text([999]), like, FIRST) == []


def test_answers_that_cannot_be_guessed_are_not():
    assert not Drafts([([10 + n, 11 + n], [500 + 9 * n, STOP]) for n in range(8)]).worth
    assert not Drafts([]).worth


def test_a_batch_whose_guesses_are_wrong_makes_no_more():
    tally = Tally()
    assert tally.worth
    tally.offered, tally.right = 1000, int(1000 * WORTH) - 1
    assert not tally.worth


def test_pilots_are_spread_over_how_prompts_begin_and_few_prompts_have_none():
    prompts = [[n % 4, n] for n in range(1000)]
    pilots = pilots_of(prompts)
    assert len(pilots) == len(set(pilots)) == PILOTS
    assert [prompts[n][0] for n in pilots].count(3) == PILOTS // 4
    assert pilots_of(prompts[: EACH - 1]) == []
