"""Each probe on records in which it is plain, in which there is nothing, and in which it cannot look."""

from types import SimpleNamespace

import pytest

from lifecycle.artifacts import Check
from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import Reading, Unmeasured
from lifecycle.diagnosis.records import Asked, Records
from lifecycle.evaluation.items import Item

BY_NAME = {probe.name: probe for probe in PROBES}


class Made(Records):
    """Records that were made up: what is not given is not there."""

    def __init__(self, state="BLOCKED", message="", curves=None, findings=None, **known):
        self.state, self.message = state, message
        nothing = {"folders": {}, "manifests": {}, "report": None, "decision": None, "items": [], "asked": []}
        self.__dict__.update({**nothing, "ended_in": None, "longest_answer": None, **known})
        self._curves, self._findings = curves or {}, findings or {}

    def curve(self, stage, name):
        return self._curves.get((stage, name), [])

    def validations(self, stage):
        return [{n.removeprefix("v:"): v[-1][1] for (s, n), v in self._curves.items() if s == stage and "/" in n}]

    def findings(self, stage):
        return self._findings.get(stage, [])

    def report_of(self, stage):
        return self.__dict__.get("earlier")

    def asked_in(self, report):
        return report.asked


def manifest(config=None, digest="d" * 64, seconds=10.0, **facts):
    return SimpleNamespace(config=config or {}, digest=digest, seconds=seconds, facts=facts, inputs=[])


def asked(n, answer='{"a":1}', score=1.0, *, value=1, unmeasured=None, stopped=1.0, tokens=5, prompt=None):
    item = Item(
        kind="contract",
        suite="contract",
        id=f"i{n}",
        mode="greedy",
        prompt_digest=prompt or f"p{n}",
        answer=answer,
        score=None if unmeasured else score,
        grades={"correct": None if unmeasured else score, "stopped": stopped},
        tokens=tokens,
        unmeasured=unmeasured,
    )
    return Asked({"id": f"i{n}", "field": "a", "value": value, "record": {"a": 1, "b": 2}, "messages": []}, item)


def look(name, **known) -> Reading:
    found = BY_NAME[name](Made(**known))
    assert isinstance(found, Reading), found
    return found


def blind(name, **known) -> str:
    found = BY_NAME[name](Made(**known))
    assert isinstance(found, Unmeasured), found
    return found.why


def test_a_run_that_left_nothing_is_measured_by_nothing_that_needs_something():
    """What still answers says how the run ended; no other probe calls nothing fine."""
    answers = [probe(Made(state="FAILED", message="out of memory")) for probe in PROBES]
    seen = {each.probe for each in answers if isinstance(each, Reading)}
    assert seen == {"how_it_ended", "refused_by_a_contract"}


def test_a_probe_that_fails_could_not_look():
    """Records of another version, a file that is gone: the other probes still speak."""
    assert "'facts'" in blind("corpus_kept", manifests={"corpus": SimpleNamespace()})


@pytest.mark.parametrize(("ratio", "strength"), [(0.84, 0.0), (1.025, 0.5), (1.3, 1.0)])
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
    assert found.knobs[0].settings == ("preference.learning_rate=0.0001",)
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
    numbers = {"candidate": 0.8, "evaluated": 20, "reason": "its interval is wide", **more}
    return Check(metric="contract.greedy_correct", rule="floor", verdict=verdict, **numbers)


def test_rules_that_stay_open_for_want_of_items():
    made = {"manifests": {"gate": manifest(), "evaluate": manifest()}}
    still_open = SimpleNamespace(checks=[check("INCONCLUSIVE")])
    assert look("power", decision=still_open, **made).strength == 1
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
