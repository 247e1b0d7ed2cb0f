"""Two runs held against each other: what differs by itself, what is ruled out, and what a stage swap says or costs."""

import json

import pytest

from lifecycle.diagnosis.comparison import Comparison, Moved, StagePair, Swap, compare, weighed
from lifecycle.diagnosis.readings import Reading, Unmeasured
from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import HEALTHY, diagnose
from lifecycle.report import comparison as words
from lifecycle.runs import Run
from lifecycle.stages.gate import Floor, GateConfig, decide_gate
from lifecycle.store import Made as MadeNow
from lifecycle.store import Store


def pair(stage, mine="a", theirs="b", *, inputs=(), **settings):
    both = {"kinds": ("Checkpoint", "Checkpoint"), "seconds": (1.0, 1.0), "facts": ({}, {}), "code": (), "raw": False}
    return StagePair(stage=stage, digests=(mine, theirs), settings=settings, inputs=inputs, **both)


def comparison(*stages, worse=True, swap=None):
    known = {"run": "bad", "against": "good", "stages": stages, "scores": (), "incomparable": None}
    return Comparison(**known, is_worse=worse, swap=swap, plan=None, no_plan="made up")


def reading(stage, strength=1.0):
    about = {"probe": "p", "says": "it is so", "seen": stage, "source": "made up", "refuted_by": "it is not so"}
    return Reading(problem="knowledge", strength=strength, stage=stage, **about)


def test_a_stage_with_the_same_artifact_cannot_be_the_cause():
    found = comparison(pair("pretrain", "a", "a"), pair("sft", epochs=(1, 2)))
    base, sft = weighed([reading("pretrain"), reading("sft")], found)
    assert (base.strength, sft.strength) == (0, 1)
    assert base.says == "it is so; not the cause: pretrain is the same artifact in good"


def test_a_run_that_is_not_the_worse_one_rules_nothing_out():
    found = comparison(pair("pretrain", "a", "a"), worse=False)
    assert weighed([reading("pretrain")], found)[0].strength == 1


def test_an_evaluation_that_asked_the_same_is_not_the_cause_and_one_that_did_not_may_be():
    suites = pair("suites", "a", "a")
    alike = pair("evaluate", inputs=("Checkpoint",))
    assert comparison(suites, alike).rules_out("evaluate") == "evaluate did the same in good"
    assert comparison(suites, pair("evaluate", max_new_tokens=(4, 32))).rules_out("evaluate") is None
    assert comparison(pair("suites"), alike).rules_out("evaluate") is None


def test_a_measured_swap_weighs_a_reading_by_the_share_its_stage_carries():
    swap = Swap(
        run="ablation", sentences=(), metric="contract.greedy_correct", shares={"sft": 0.25, "preference": 0.75}
    )
    stages = pair("sft", epochs=(1, 2)), pair("preference", beta=(1, 2))
    found = weighed([reading("sft", 0.8), reading("preference", 0.8)], comparison(*stages, swap=swap))
    assert [each.strength for each in found] == [0.2, 0.6]
    assert "swapping sft moves 25% of contract.greedy_correct" in found[0].says


def test_what_could_not_be_looked_at_stays_so():
    blind = Unmeasured(probe="p", problem="knowledge", why="no records")
    assert weighed([blind], comparison(pair("sft", "a", "a"))) == [blind]


@pytest.mark.parametrize(
    ("low", "high", "up", "worse"), [(-3, -1, True, True), (-1, 1, True, False), (1, 3, False, True)]
)
def test_a_metric_is_worse_only_when_its_interval_shows_it(low, high, up, worse):
    known = {"metric": "m", "values": (1.0, 2.0), "difference": 0.0, "fault": None}
    assert Moved(**known, low=low, high=high, higher_is_better=up).is_worse == worse


@pytest.fixture
def two(tmp_path, make_report, answer, held_out, base, sft, demonstrations):
    """A store with a good run and a bad one, which differ in SFT, its evaluation and the gate."""
    store = Store(tmp_path / "store")

    def make(name, right, checkpoint, state):
        run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name=name)
        report = make_report(
            [answer(n, correct=n < right) for n in range(100)], checkpoint=checkpoint.digest, name=name
        )
        (tmp_path / f"gate-{name}").mkdir()
        policy = GateConfig(rules=(Floor(metric="contract.greedy_correct", at_least=0.9),))
        gate = decide_gate(policy, report, out_dir=tmp_path / f"gate-{name}")
        made = {"suites": held_out[0], "pretrain": base, "demonstrations": demonstrations, "sft": checkpoint}
        for label, artifact in {**made, "evaluate": report, "gate": gate}.items():
            run.add(MadeNow(artifact, reused=False, seconds=1.0), label=label)
        run.end(state, name)
        return Records(store, run)

    return make("bad", 30, sft, "BLOCKED"), make("good", 99, base, "RELEASED")


def test_two_runs_are_told_apart_stage_by_stage_with_their_scores(two):
    found = compare(*two)
    same = {pair.stage for pair in found.stages if pair.same}
    assert same == {"suites", "pretrain", "demonstrations"}
    assert {pair.stage: pair.by_itself for pair in found.stages}["sft"]
    correct = next(moved for moved in found.scores if moved.metric == "contract.greedy_correct")
    assert correct.values == (0.3, 0.99)
    assert correct.difference == pytest.approx(-0.69)
    assert correct.is_worse
    assert found.is_worse
    assert not compare(two[1], two[0]).is_worse, "the good run is not worse than the bad one"
    said = " ".join(words.conclusions(found))
    assert "Not the cause, because it is the same artifact in both: suites, pretrain, demonstrations." in said


def test_a_run_beside_itself_differs_in_nothing_and_rules_nothing_out(two):
    found = compare(two[0], two[0])
    assert (found.suspects, found.is_worse) == ([], False)
    assert diagnose(two[0], comparison=found).first.problem == diagnose(two[0]).first.problem != HEALTHY


def test_a_stage_swap_that_was_measured_is_found_and_one_of_other_runs_is_not(two):
    bad, good = two
    effects = [{"stage": "sft", "metric": "m", "value": 0.6, "is_shown": True}]
    effects.append({"stage": "preference", "metric": "m", "value": 0.2, "is_shown": False})
    swap = {"good": "good", "bad": "bad", "effects": effects, "accounted": ["m: sft moves it by +0.6"]}
    ablation = Run.start(bad.store, flow="ablate", recipe="tiny", settings=[], name="ablation")
    ablation.end("COMPLETED")
    (ablation.folder / "ablation.json").write_text(json.dumps({**swap, "good": "another"}))
    assert compare(bad, good).swap is None
    (ablation.folder / "ablation.json").write_text(json.dumps(swap))
    found = compare(bad, good)
    assert found.swap.shares == pytest.approx({"sft": 0.75, "preference": 0.25})
    assert "Stages swapped in ablation: m: sft moves it by +0.6" in words.conclusions(found)


def test_the_swap_is_planned_and_priced_and_not_started(two):
    bad, good = two
    before = sorted(bad.store.root.rglob("*"))
    plan = compare(bad, good).plan
    assert plan.command == "python -m flows.ablate --good good --bad bad"
    assert (plan.remade, plan.evaluations, plan.seconds) == ((), 0, 0.0), "one stage differs: the good run is its swap"
    assert sorted(bad.store.root.rglob("*")) == before


def test_runs_that_ended_early_are_compared_as_far_as_they_came(tmp_path):
    store = Store(tmp_path / "empty")
    runs = [Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name=name) for name in ("a", "b")]
    for run in runs:
        run.end("FAILED", "out of memory")
    found = compare(*(Records(store, run) for run in runs))
    assert (found.stages, found.scores, found.incomparable) == ((), (), "a was not evaluated")
    assert "expected run" in found.no_plan
    assert "Stages cannot be swapped" in words.markdown(found)
