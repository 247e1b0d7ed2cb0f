"""Guesses come from the prompt and from the pilot that is most like it, and stop where they are not worth it."""

from lifecycle.evaluation.drafts import EACH, FIRST, PILOTS, WORTH, Drafts, Tally, as_text, pilots_of

STOP = 2


def prompt(field, value):
    """Ids of `give FIELD of {other: 8, FIELD: VALUE, more}`."""
    return [100, field, 101, 102, 8, 103, field, 104, value, 108, 109, 105, 106]


def answer(field, value):
    return [102, field, 104, value, 105, STOP]


PAIRS = [(prompt(field, value), answer(field, value)) for field in (40, 41) for value in (50, 51, 52)]


def test_an_answer_is_guessed_from_the_like_pilot_and_its_value_from_the_prompt():
    drafts = Drafts(PAIRS, stop_id=STOP)
    text = as_text(prompt(41, 77))
    assert drafts.after(text, as_text([102, 41]), drafts.like(text), 2) == [104, 77]
    assert drafts.worth


def test_what_pilots_said_instead_of_the_prompts_next_token_is_guessed_and_nothing_behind_the_stop():
    """After a value the prompt goes on with 108, and every pilot said 105 there."""
    drafts = Drafts(PAIRS, stop_id=STOP)
    text = as_text(prompt(41, 77))
    assert drafts.after(text, "", drafts.like(text), 20) == answer(41, 77)


def test_a_value_is_copied_though_pilots_often_said_another_one():
    often = [(prompt(40, value), answer(40, value)) for value in (50, 51, 52, 53, 54, 55, 50, 50, 50, 50)]
    drafts = Drafts(often, stop_id=STOP)
    text = as_text(prompt(40, 77))
    assert drafts.after(text, as_text([102, 40, 104]), drafts.like(text), 1) == [77]


def test_a_guess_ends_where_it_is_more_likely_wrong_than_it_is_worth():
    """Every pilot's second token is its own: behind the first nothing is known."""
    drafts = Drafts([([7, 8, 9], [60, 200 + n, STOP]) for n in range(12)], stop_id=STOP)
    assert drafts.after(as_text([7, 8, 9]), "", drafts.like(as_text([7, 8, 9])), FIRST) == [60]


def test_a_pilot_that_says_something_else_is_left_behind():
    drafts = Drafts(PAIRS, stop_id=STOP)
    like = drafts.like(as_text(prompt(40, 60)))
    assert drafts.after(as_text([1, 1, 1]), as_text([999]), like, FIRST) == []


def test_answers_that_cannot_be_guessed_are_not():
    assert not Drafts([([10 + n, 11 + n], [500 + 9 * n, STOP]) for n in range(8)], stop_id=STOP).worth
    assert not Drafts([], stop_id=STOP).worth


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
