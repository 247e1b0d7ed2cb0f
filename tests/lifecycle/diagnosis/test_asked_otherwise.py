"""What `--measure` found, made up: in which way each probe speaks, when it is silent, and when it cannot look."""

import pytest
from made_up_runs import asked, blind, look, manifest

from lifecycle.diagnosis.measurement import Counted, Loss, Measured, Measurement
from lifecycle.diagnosis.probes.asked_otherwise import NOT_YET

NAMES = ("closed_book", "record_in_context", "one_shot", "loss_by_kind", "template_variants", "served_ids")
STAGES = {"pretrain": manifest(), "sft": manifest()}


def measured(**found):
    nothing = {"scores": {}, "seeds": [], "faults": {}, "served": None, "stop_ranks": [], "losses": {}}
    whole = Measured(**{**nothing, "continuations": None, **found})
    return {"measured": Measurement(about={}, items=100, seconds=1.0, found=whole), "candidate": "sft"}


def right(n, of=100):
    """The first n of them right."""
    return {f"contract/{i}": float(i < n) for i in range(of)}


@pytest.mark.parametrize("name", [*NAMES, "stop_rank", "another_seed"])
def test_what_was_not_asked_is_unmeasured_and_says_how_to_ask(name):
    assert blind(name) == NOT_YET
    assert blind(name, **measured())


@pytest.mark.parametrize(("hits", "strength"), [(95, 0.0), (50, 1.0)])
def test_a_base_that_cannot_match_texts_with_their_own_words(hits, strength):
    found = look("closed_book", **measured(continuations=Counted(hits=hits, of=100)), manifests=STAGES)
    assert (found.strength, found.problem, found.stage) == (strength, "knowledge", "pretrain")
    assert "30 pairs" in blind("closed_book", **measured(continuations=Counted(hits=5, of=10)))


@pytest.mark.parametrize(
    ("name", "way", "problem"),
    [
        ("record_in_context", "with_record", "knowledge"),
        ("one_shot", "one_shot", "behaviour"),
        ("template_variants", "doubled_bos", "protocol"),
    ],
)
def test_what_comes_out_better_in_another_way_tells_the_problem(name, way, problem):
    better = look(name, **measured(scores={"as_asked": right(40), way: right(80)}), manifests=STAGES)
    assert (better.strength, better.problem) == (1, problem)
    assert "80%" in better.says
    for other in (right(40), right(10), right(43)):
        same = look(name, **measured(scores={"as_asked": right(40), way: other}), manifests=STAGES)
        assert same.strength == 0, "no better, worse, or better by chance"
    few = measured(scores={"as_asked": right(40), way: dict.fromkeys(right(40))})
    assert "only 0 of 100 items could be measured" in blind(name, **few)
    assert "no such" in blind(name, **measured(faults={way: "no such items"}))


def test_a_kind_of_demonstration_that_costs_far_more_than_the_others():
    def losses(worst):
        return {kind: Loss(rows=9, tokens=100, nats=nats) for kind, nats in (("a", 5.0), ("b", 7.0), ("c", worst))}

    assert look("loss_by_kind", **measured(losses=losses(200.0)), manifests=STAGES).strength == 1
    assert look("loss_by_kind", **measured(losses=losses(12.0)), manifests=STAGES).strength == 0


@pytest.mark.parametrize(("hits", "strength"), [(100, 0.0), (90, 0.5), (0, 1.0)])
def test_prompts_that_a_server_would_render_otherwise(hits, strength):
    found = look("served_ids", **measured(served=Counted(hits=hits, of=100)), manifests=STAGES)
    assert found.strength == pytest.approx(strength, abs=1e-3)


@pytest.mark.parametrize(("ranks", "strength"), [([1] * 95 + [3] * 5, 0.0), ([1] * 50 + [400] * 50, 1.0)])
def test_a_stop_token_that_stands_far_down(ranks, strength):
    assert look("stop_rank", **measured(stop_ranks=ranks), manifests=STAGES).strength == strength


def test_a_score_that_moves_as_far_with_the_seed_as_the_margin_is_wide():
    """40 of 100 items flip: over 25 sampled items that is sqrt(.4 / 25) = 12.6 points, over 2,500 it is 1.3."""
    rule = {"kind": "guard", "metric": "contract.sampled_correct", "margin": 0.05}
    made = {**measured(seeds=[right(40), right(80)]), "report": object()}

    def drawn(n):
        items = [asked(i).item.model_copy(update={"mode": "sampled"}) for i in range(n)]
        return {**made, "items": items, "manifests": {**STAGES, "gate": manifest({"rules": [rule]})}}

    few = look("another_seed", **drawn(25))
    assert (few.strength, few.problem) == (1, "eval_blindness")
    assert "moves by 12.6%" in few.says
    assert look("another_seed", **drawn(2500)).strength == 0
