"""Each probe on records in which it is plain, in which there is nothing, and in which it cannot look."""

from types import SimpleNamespace

import pytest
from made_up_runs import Made, asked, blind, look, manifest

from lifecycle.artifacts import Check, Score
from lifecycle.data.jsonl import write_rows
from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.probes.preference import weaker
from lifecycle.diagnosis.readings import Reading


def test_a_run_that_left_nothing_is_measured_by_nothing_that_needs_something():
    """What still answers says how the run ended; no other probe calls nothing fine."""
    answers = [probe(Made(state="FAILED", message="out of memory")) for probe in PROBES]
    seen = {each.probe for each in answers if isinstance(each, Reading)}
    assert seen == {"how_it_ended", "refused_by_a_contract"}


def test_a_probe_that_fails_could_not_look():
    """Records of another version, a file that is gone: the other probes still speak."""
    assert "'facts'" in blind("corpus_kept", manifests={"corpus": SimpleNamespace()})


@pytest.mark.parametrize(("ratio", "strength"), [(1.05, 0.0), (1.25, 0.5), (1.6, 1.0)])
def test_bits_per_byte_is_held_against_the_bigram(ratio, strength):
    report = SimpleNamespace(baselines={"bigram_bits_per_byte.x": 2.0})
    made = {"manifests": {"pretrain": manifest({"horizon": {"steps": 400}}, steps=400)}, "report": report}
    found = look("bits_per_byte", curves={("pretrain", "bits_per_byte/x"): [(400, 2.0 * ratio)]}, **made)
    assert found.strength == pytest.approx(strength, abs=1e-3)
    assert found.knobs[0].settings == ("pretrain.horizon.steps=800",)
    assert found.knobs[0].seconds == 20.0, "twice the base's ten seconds, and nothing was made below it"


def test_what_sft_does_not_reproduce_it_was_not_taught_long_enough():
    made = {"manifests": {"sft": manifest({"epochs": 1.28})}}
    assert look("copied", curves={("sft", "dev/token_accuracy"): [(80, 0.90)]}, **made).strength == 1
    assert look("copied", curves={("sft", "dev/token_accuracy"): [(800, 0.99)]}, **made).strength == 0
    assert "not measured" in blind("copied", **made)


def test_form_without_content():
    wrong = [asked(n, '{"a":2}', 0.0) for n in range(50)] + [asked(n, "none", 0.0) for n in range(50, 100)]
    found = look("right_form_wrong_content", asked=[*wrong, *(asked(n) for n in range(100, 200))])
    assert (found.failing, found.strength) == (50, pytest.approx(0.5, abs=1e-3))
    assert found.examples[0] == 'i0: asked a=1, said {"a":2}'


def test_what_was_right_after_sft_and_no_longer_is():
    before = [asked(n) for n in range(200)]
    after = [asked(n, "x", 0.0) if n < 40 else asked(n) for n in range(200)]
    made = {"manifests": {"preference": manifest({"learning_rate": 4e-4}), "sft": manifest()}}
    earlier, report = SimpleNamespace(asked=before), SimpleNamespace(asked=after)
    found = look("before_and_after", asked=after, earlier=earlier, report=report, **made)
    assert (found.strength, found.failing) == (1, 40)
    assert found.knobs[0].settings == ("preference.chosen_nll_weight=1.0",)
    same = look("before_and_after", asked=before, earlier=earlier, report=report, **made)
    assert same.strength == 0
    assert "--measure" in blind("before_and_after", asked=after, report=report, **made)


def test_a_loss_of_few_items_is_chance():
    before = [asked(n) for n in range(60)]
    after = [asked(n, "x", 0.0) if n < 2 else asked(n) for n in range(60)]
    made = {"manifests": {"preference": manifest(), "sft": manifest()}}
    earlier, report = SimpleNamespace(asked=before), SimpleNamespace(asked=after)
    assert look("before_and_after", asked=after, earlier=earlier, report=report, **made).strength == 0


def test_pairs_won_by_making_both_answers_unlikely():
    made = {"manifests": {"preference": manifest({"beta": 0.1})}}
    curves = {
        ("preference", "heldout/reward_margin"): [(78, 8.0)],
        ("preference", "heldout/reward_chosen"): [(78, -3.0)],
        ("preference", "heldout/reward_accuracy"): [(78, 1.0)],
    }
    found = look("reward_margin", curves=curves, **made)
    assert found.strength == 1
    assert "80 nats" in found.says
    assert "less likely by 30.0 nats" in found.says


@pytest.mark.parametrize(("accuracy", "strength"), [(0.99, 0.0), (0.5, 1.0), (0.1, 1.0)])
def test_labels_that_cannot_be_learned(accuracy, strength):
    made = {"manifests": {"preference": manifest(), "comparisons": manifest(heldout_pairs=400)}}
    found = look("learned_ranking", curves={("preference", "heldout/reward_accuracy"): [(78, accuracy)]}, **made)
    assert found.strength == strength


def test_answers_that_are_cut_accuse_the_limit_where_answers_are_longer_than_it():
    cut = [asked(n, unmeasured="truncated", stopped=0.0) for n in range(100)]
    made = {
        "asked": cut,
        "items": [each.item for each in cut],
        "manifests": {"evaluate": manifest({"max_new_tokens": 4})},
    }
    assert look("unmeasured", longest_answer=12, **made).strength == 1
    assert "cannot tell" in blind("answers_end", longest_answer=12, **made)
    assert look("unmeasured", longest_answer=3, **made).strength < 0.5
    assert look("answers_end", longest_answer=3, **made).strength == 1


def test_an_answer_key_that_contradicts_its_record():
    rows = [asked(n, value=2 if n < 20 else 1).row for n in range(200)]
    made = {"manifests": {"suites": manifest(items={"contract": 200})}, "suite": lambda name: rows}
    found = look("wrong_gold", **made)
    assert (found.failing, found.strength) == (20, 1)


def test_items_asked_again_are_no_more_items():
    copies = [asked(n, prompt=f"p{n % 10}") for n in range(100)]
    report = SimpleNamespace(baselines={"contract.majority_answer": 0.33}, asked=copies)
    assert look("room_to_move", asked=copies, report=report).strength == 1
    assert look("room_to_move", asked=[asked(n) for n in range(100)], report=report).strength == 0


def check(verdict, **more):
    about = {"metric": "contract.greedy_correct", "rule": "floor", "candidate": 0.8, "evaluated": 20}
    return Check(verdict=verdict, **{**about, "reason": "its interval is wide", **more})


def test_rules_that_stay_open_for_want_of_items():
    made = {"manifests": {"gate": manifest(), "evaluate": manifest()}}
    still_open = SimpleNamespace(checks=[check("INCONCLUSIVE")])
    assert look("power", decision=still_open, **made).strength == 1
    unasked = SimpleNamespace(checks=[check("UNMEASURED", evaluated=None)])
    assert look("power", decision=unasked, **made).strength == 1, "twenty items are no planned number"
    failing = SimpleNamespace(checks=[check("INCONCLUSIVE"), check("FAIL")])
    assert look("power", decision=failing, **made).strength == 0, "what failed was seen well enough"


@pytest.mark.parametrize(
    ("state", "message", "strength"),
    [
        ("FAILED", "expected the job to fit into memory, found OutOfMemoryError", 1.0),
        ("FAILED", "the loss is not finite at step 12", 1.0),
        ("FAILED", "something unheard of", 0.3),
        ("BLOCKED", "below the floor", 0.0),
    ],
)
def test_how_a_run_ended(state, message, strength):
    assert look("how_it_ended", state=state, message=message).strength == strength


def test_a_run_that_a_contract_ended_says_so_itself():
    found = look("refused_by_a_contract", state="FAILED", message="chat protocols differ: sft has 1, evaluate has 2")
    assert (found.strength, found.problem) == (1, "protocol")
    assert look("refused_by_a_contract", state="FAILED", message="no space left").strength == 0


def test_what_the_watchdog_did_counts_and_what_it_said_does_not():
    row = {"step": 7, "rule": "loss_spike", "action": "roll_back", "evidence": "9 nats"}
    made = {"folders": {"pretrain": None}, "manifests": {"pretrain": manifest({"learning_rate": 3e-3})}}
    assert look("watchdog", findings={"pretrain": [row, row]}, **made).strength == 1
    assert look("watchdog", findings={"pretrain": [{**row, "action": "warn"}]}, **made).strength == 0


def test_rows_nobody_trained_on():
    made = {
        "manifests": {
            "sft": manifest(dropped={"too_long": 300}, cut_rows=0),
            "demonstrations": manifest(train_rows=1000),
        }
    }
    assert look("rows_that_did_not_fit", **made).strength == 1


def rows_file(tmp_path, stage, name, rows):
    """A stage's folder with a file of rows in it."""
    folder = tmp_path / stage
    folder.mkdir()
    write_rows(folder / name, rows)
    return folder


def pair(n, chosen, rejected):
    prompt = [{"role": "user", "content": 'Return "a".\n{"a":1}'}]
    sides = {"chosen": chosen, "rejected": rejected}
    return {
        "id": f"c{n}",
        "prompt": prompt,
        **{k: [{"role": "assistant", "content": v}] for k, v in sides.items()},
    }


def test_pairs_in_which_a_wrong_answer_is_labelled_to_win(tmp_path):
    right, wrong = '{"a":1}', '{"a":2}'
    rows = [pair(n, *((wrong, right) if n < 20 else (right, wrong))) for n in range(100)]
    made = {"folders": {"comparisons": rows_file(tmp_path, "comparisons", "train.jsonl", rows)}}
    found = look("labels_and_verifier", **made)
    assert (found.strength, found.says.split(" pairs")[0]) == (1, "in 20 of 100")
    write_rows(tmp_path / "comparisons/train.jsonl", rows[20:])
    assert look("labels_and_verifier", **made).strength == 0
    write_rows(tmp_path / "comparisons/train.jsonl", [pair(0, "yes", "no")])
    assert "no pair carries a record" in blind("labels_and_verifier", **made)


def sampled(n, tokens, score):
    return asked(n, score=score, tokens=tokens).item.model_copy(update={"mode": "sampled"})


def won_by_length(after, before):
    reports = {"report": SimpleNamespace(items=after), "earlier": SimpleNamespace(items=before)}
    return {**reports, "items": after, "manifests": {"preference": manifest(), "sft": manifest()}}


def test_answers_that_became_longer_and_wrong_while_the_others_stayed_right():
    before = [sampled(n, 10, 1.0) for n in range(100)]
    longer = [sampled(n, 30 if n < 50 else 10, float(n >= 50)) for n in range(100)]
    assert look("won_by_length", **won_by_length(longer, before)).strength == 1
    all_worse = [sampled(n, 30 if n < 50 else 10, 0.0) for n in range(100)]
    assert look("won_by_length", **won_by_length(all_worse, before)).strength == 0, "length makes no difference"
    terse = [sampled(n, 5, 1.0) for n in range(100)]
    assert look("won_by_length", **won_by_length(terse, before)).strength == 0, "shorter, and still right"
    assert "changed their length" in blind("won_by_length", **won_by_length(before, before))


def overflowed(steps):
    row = {"rule": "fp16_overflow", "action": "warn", "evidence": "inf"}
    made = {"pretrain": manifest({"precision": "fp16"}, steps=100)}
    return {"manifests": made, "findings": {"pretrain": [{**row, "step": n} for n in range(steps)]}}


def test_steps_that_half_precision_skipped():
    found = look("precision", **overflowed(30))
    assert (found.strength, found.knobs[0].settings) == (1, ("pretrain.precision=bf16",))
    assert look("precision", **overflowed(1)).strength == 0
    assert "no stage says" in blind("precision", manifests={"pretrain": manifest()})


def interrupted(jump, gap):
    """Two hundred losses that wander by 0.1, with a break of `gap` seconds after the hundredth."""
    rows = [(n, 2.0 * n + (gap if n >= 100 else 0), 3 + 0.1 * (n % 2) + (jump if n >= 100 else 0)) for n in range(200)]
    made = {"folders": {"sft": None}, "manifests": {"sft": manifest()}}
    return {**made, "timed": lambda stage, name: rows}


def test_a_break_behind_which_the_loss_jumps():
    found = look("resume_seams", **interrupted(1.0, 300))
    assert found.strength == 1
    assert "at step 100 of sft" in found.says
    assert look("resume_seams", **interrupted(0.0, 300)).strength == 0, "a resume that lost nothing"
    assert look("resume_seams", **interrupted(1.0, 0)).strength == 0, "a jump without a break is the watchdog's"


def score(mean, width=0.02):
    return Score(mean=mean, low=mean - width, high=mean + width, items=100)


def two_reports(mine, theirs, gated="contract.greedy_correct"):
    reports = [SimpleNamespace(scores={k: score(v) for k, v in one.items()}) for one in (mine, theirs)]
    decision = SimpleNamespace(checks=[check("PASS", metric=gated)])
    return {"report": reports[0], "earlier": reports[1], "decision": decision, "candidate": "preference"}


def test_metrics_at_their_ceiling_in_both_reports():
    known = {"manifests": {"suites": manifest(), "evaluate": manifest()}}
    metric = "contract.greedy_correct"
    assert look("ceiling_or_floor", **two_reports({metric: 1.0}, {metric: 0.999}), **known).strength == 1
    assert look("ceiling_or_floor", **two_reports({metric: 0.0}, {metric: 0.0}), **known).strength == 1
    assert look("ceiling_or_floor", **two_reports({metric: 0.0}, {metric: 0.9}), **known).strength == 0, "it can fall"
    assert "a second report" in blind("ceiling_or_floor", candidate="sft", **known)


def test_a_suite_that_stays_while_the_contract_moves():
    names = ("contract.greedy_correct", "quiz.correct")
    moved = {names[0]: 0.9, names[1]: 0.5}
    still = look("suites_that_do_not_move", **two_reports(moved, {names[0]: 0.3, names[1]: 0.5}))
    assert (still.strength, still.says) == (0.3, "contract moved; quiz did not, of 2 suites")
    assert look("suites_that_do_not_move", **two_reports(moved, {names[0]: 0.3, names[1]: 0.2})).strength == 0
    assert "shown to differ" in blind("suites_that_do_not_move", **two_reports(moved, moved))


def test_a_judge_that_changes_its_mind_with_the_order():
    def judged(odd):
        items = [asked(n).item for n in range(100)]
        return [item.model_copy(update={"grades": {"consistent": float(n >= odd)}}) for n, item in enumerate(items)]

    assert look("judge_position", items=judged(40)).strength == 1
    assert look("judge_position", items=judged(2)).strength == 0
    assert "no suite is judged" in blind("judge_position", items=[asked(1).item])


def test_a_preference_stage_is_told_to_keep_winning_answers_likely_only_if_it_does_not_yet():
    free = manifest({"learning_rate": 1e-4, "chosen_nll_weight": 0.0})
    assert len(weaker(Made(manifests={"preference": free}))) == 2
    kept = manifest({"learning_rate": 1e-4, "chosen_nll_weight": 1.0})
    assert [knob.settings for knob in weaker(Made(manifests={"preference": kept}))] == [
        ("preference.learning_rate=2.5e-05",)
    ]


def short_sft(**more):
    """Answers that SFT does not reproduce after 30 steps of a million weights."""
    curves = {("sft", "dev/token_accuracy"): [(30, 0.80)], ("sft", "token_accuracy"): [(30, more.pop("trained", 0.80))]}
    config = {"epochs": 0.05, "learning_rate": more.pop("rate", 3e-3)}
    return look("copied", curves=curves, manifests={"sft": manifest(config, steps=30, parameters=1_000_000)})


def test_a_short_sft_goes_on_as_long_as_a_lookup_takes():
    """30 steps, 300 wanted: ten times .05 epochs. The rate is what suits a million weights, and no knob."""
    assert short_sft().knobs[0].settings == ("sft.epochs=0.5",)


def test_a_rate_far_below_what_suits_is_the_first_thing_to_change():
    assert short_sft(rate=2e-5).knobs[0].settings == ("sft.learning_rate=0.003",)


def test_what_is_known_by_heart_wants_other_demonstrations():
    assert [short_sft(trained=share).stage for share in (0.80, 0.99)] == ["sft", "demonstrations"]


@pytest.mark.parametrize(("last", "strength"), [(0.1, 0.0), (4.6, 0.5), (90.0, 1.0)])
def test_a_loss_that_ends_above_where_it_began(last, strength):
    """4.6 / 4 is halfway between 1 and 1.3. The rate that is proposed is no more than what a small model takes."""
    curve = {("sft", "loss"): [(10 * n, 4.0 if n < 3 else last) for n in range(8)]}
    found = look("loss_at_the_end", curves=curve, manifests={"sft": manifest({"learning_rate": 10.0})})
    assert found.strength == pytest.approx(strength, abs=1e-3)
    assert [knob.settings for knob in found.knobs] == [("sft.learning_rate=0.003",)] * (strength > 0)


def test_right_answers_that_run_on_after_sft():
    """Twenty of a hundred; ten more that are cut are wrong, and speak for something else."""
    right = [asked(n, '{"a":1} and so', unmeasured="truncated") for n in range(20)]
    wrong = [asked(n, "no idea", unmeasured="truncated") for n in range(20, 30)]
    earlier = SimpleNamespace(asked=[*right, *wrong, *(asked(n) for n in range(30, 100))])
    made = {"earlier": earlier, "manifests": {"evaluate": manifest({"max_new_tokens": 32}), "sft": manifest()}}
    assert look("answers_after_sft_end", **made).strength == pytest.approx((0.2 - 0.05) / 0.35, abs=1e-3)


def test_a_wide_margin_harms_nobody_while_winning_answers_stay_likely():
    """50 nats apart: three quarters of the way from 20 to 60, and a third of that counts."""
    made = {"manifests": {"preference": manifest({"beta": 0.1})}}
    curves = {
        ("preference", "heldout/reward_margin"): [(78, 5.0)],
        ("preference", "heldout/reward_chosen"): [(78, 0.1)],
    }
    assert look("reward_margin", curves=curves, **made).strength == pytest.approx(0.3 * 0.75)
    curves["preference", "heldout/reward_chosen"] = [(78, -0.05)]
    assert look("reward_margin", curves=curves, **made).strength == pytest.approx(0.75)


def test_more_items_are_those_that_were_not_asked():
    made = {"decision": SimpleNamespace(checks=[check("INCONCLUSIVE")])}
    manifests = {
        "gate": manifest(),
        "evaluate": manifest({"items_per_suite": 20}),
        "suites": manifest(items={"x": 240}),
    }
    found = look("power", **made, manifests=manifests)
    assert [(knob.settings, knob.times) for knob in found.knobs] == [(("evaluate.items_per_suite=null",), 12)]
    manifests["evaluate"] = manifest({"items_per_suite": None})
    assert look("power", **made, manifests=manifests).knobs[0].settings == ()


@pytest.mark.parametrize(("temperature", "strength"), [(0.7, 0.0), (1.0, 0.0), (1.6, 0.5), (3.0, 1.0)])
def test_answers_drawn_as_nobody_serves(temperature, strength):
    made = {"items": [sampled(1, 10, 1.0)], "manifests": {"evaluate": manifest({"sampled_temperature": temperature})}}
    found = look("sampled_as_served", **made)
    assert found.strength == pytest.approx(strength)
    assert bool(found.knobs) == (temperature > 1)
