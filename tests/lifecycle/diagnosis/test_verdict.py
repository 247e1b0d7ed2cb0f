"""The ranking: hand-worked odds, causes before symptoms, and nothing unmeasured that counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import PROBLEMS, Knob, Reading, Unmeasured, between
from lifecycle.diagnosis.verdict import CHAIN, HEALTHY, WEIGHTS, Weights, fitted, ranking


def reading(probe="bits_per_byte", problem="knowledge", strength=1.0, seen="pretrain", **more) -> Reading:
    about = {"says": "it is so", "source": "made up", "stage": seen, "refuted_by": "it is not so"}
    return Reading(probe=probe, problem=problem, strength=strength, seen=seen, **about, **more)


EVEN = Weights(probes={}, other=0.5, healthy_odds=1.0)


def probabilities(answers, weights=EVEN):
    return {each.problem: each.probability for each in ranking(answers, weights)}


def test_two_readings_of_one_problem_are_a_noisy_or():
    """Doubt .5 * .75 = .375, odds .625/.375 = 5/3 against 1 for healthy and 0 for the others: 5/8."""
    found = probabilities([reading(), reading("corpus_kept", strength=0.5, seen="corpus")])
    assert found["knowledge"] == pytest.approx(5 / 8, abs=1e-4)
    assert found[HEALTHY] == pytest.approx(3 / 8, abs=1e-4)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def test_what_was_seen_earlier_explains_what_was_seen_later():
    """The base is at .5; of the SFT's .5 half is left, .25: odds 1 and 1/3 against 1 for healthy."""
    found = probabilities([reading(), reading("copied", "behaviour", seen="sft")])
    assert found["knowledge"] == pytest.approx(3 / 7, abs=1e-4)
    assert found["behaviour"] == pytest.approx(1 / 7, abs=1e-4)


def test_a_wrong_answer_key_explains_answers_and_no_training():
    answers = [
        reading("wrong_gold", "eval_blindness", seen="suites"),
        reading("copied", "behaviour", seen="sft"),
        reading("right_form_wrong_content", "behaviour", 1.0, seen="evaluate"),
    ]
    behaviour = probabilities(answers)["behaviour"]
    assert behaviour == pytest.approx(probabilities([*answers[:2], reading("x", "behaviour", 0.5, "sft")])["behaviour"])


@given(st.sampled_from(PROBLEMS), st.lists(st.sampled_from(PROBLEMS)))
def test_what_could_not_be_looked_at_changes_nothing(problem, blind):
    unmeasured = [Unmeasured(probe="p", problem=name, why="no records") for name in blind]
    answers = [reading(problem=problem, strength=0.7)]
    assert probabilities([*answers, *unmeasured]) == probabilities(answers)


def test_nothing_seen_is_healthy_and_says_no_stage():
    first = ranking([reading(strength=0.0)], EVEN)[0]
    assert (first.problem, first.probability, first.stage, first.readings) == (HEALTHY, 1.0, None, ())


def test_knobs_come_cheapest_first_and_each_once():
    def knob(change, seconds):
        return Knob(change=change, stage="sft", seconds=seconds)

    answers = [
        reading(knobs=(knob("train longer", 90.0), knob("unknown", None))),
        reading("corpus_kept", seen="corpus", knobs=(knob("score more", 3.0), knob("train longer", 90.0))),
    ]
    assert [each.change for each in ranking(answers, EVEN)[0].knobs] == ["score more", "train longer", "unknown"]


def test_no_reading_makes_certain():
    sure = Weights(probes={}, other=1.0, healthy_odds=0.1)
    assert 0.99 < probabilities([reading()], sure)["knowledge"] < 1


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10))
def test_between_is_a_share_whichever_way_it_runs(value, fine, plain):
    if fine != plain:
        assert 0 <= between(value, fine, plain) <= 1
        assert between(fine, fine, plain) == 0
        assert between(plain, fine, plain) == 1


def test_every_problem_has_probes_and_the_weights_that_ship_know_no_others():
    assert {probe.problem for probe in PROBES} == set(PROBLEMS)
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    assert set(json.loads(WEIGHTS.read_text())["probes"]) <= {probe.name for probe in PROBES}
    assert all(0 <= weight <= 1 for weight in fitted().probes.values())
    assert all(probe.look.__doc__ for probe in PROBES), "a probe says what it reads, and why"
    assert CHAIN.index("corpus") < CHAIN.index("pretrain") < CHAIN.index("sft") < CHAIN.index("preference")


def test_the_stage_named_is_that_of_what_shows_first():
    """A label is the cause of what was lost in learning it, and its stage is mended first, though it costs more."""
    dear, cheap = (Knob(change=name, stage=name, seconds=n) for name, n in (("comparisons", 9.0), ("preference", 1.0)))
    answers = [
        reading("before_and_after", "preference", seen="preference").model_copy(update={"knobs": (cheap,)}),
        reading("labels_and_verifier", "preference", seen="comparisons").model_copy(update={"knobs": (dear,)}),
    ]
    first = ranking(answers, EVEN)[0]
    assert (first.stage, first.knobs) == ("comparisons", (dear, cheap))


def test_a_run_that_did_not_end_well_is_hardly_healthy():
    """Odds of 1/4 against 1 for healthy, or against .1: a fifth of it, or 5/7."""
    answers, weights = [reading(strength=0.4)], EVEN.model_copy(update={"failed_odds": 0.1})
    said = {state: ranking(answers, weights, state)[0] for state in ("RELEASED", "BLOCKED", "FAILED")}
    assert (said["RELEASED"].problem, said["RELEASED"].probability) == (HEALTHY, 0.8)
    assert said["BLOCKED"] == said["FAILED"]
    assert (said["BLOCKED"].problem, said["BLOCKED"].probability) == ("knowledge", pytest.approx(5 / 7, abs=1e-4))
