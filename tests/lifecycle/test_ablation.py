"""Which stages of two runs differ by themselves, and what is made again when one is taken from the other run."""

from pathlib import Path
from typing import ClassVar

import pytest
from releases import store_in_memory

from lifecycle.ablation import POSSIBLE_INPUTS, Recorded, differences, inputs_among, rung, still_describes
from lifecycle.artifacts import Demonstrations
from lifecycle.errors import ConfigError, InputError
from lifecycle.runs import Run
from lifecycle.sealing import StageConfig


class AnyConfig(StageConfig):
    stage: ClassVar[str] = "any"
    knob: int = 0
    same_bytes: bool = False


INPUTS = inputs_among(set(POSSIBLE_INPUTS) - {"base"})
CONFIGS = {
    name: type(f"{name}Config", (AnyConfig,), {"stage": name, "__module__": __name__}) for name in POSSIBLE_INPUTS
}


def make(config: AnyConfig, *inputs, out_dir: Path) -> Demonstrations:
    """Every stage here: one file, of its knob and of all that is above it."""
    above = "".join(entry.digest for entry in inputs)
    (out_dir / "content.txt").write_text(above if config.same_bytes else f"{config.stage} {config.knob} {above}")
    facts = {"train_rows": 1, "dev_rows": 0, "dropped": {}, "suites_digest": ""}
    return Demonstrations(path=out_dir, **facts).seal(config, *inputs)


@pytest.fixture
def store(tmp_path):
    with store_in_memory(tmp_path) as store:
        yield store


def recorded(
    store, *, stop_before: str | None = None, same_bytes: str | None = None, stages=INPUTS, **knobs: int
) -> Recorded:
    """A run of all stages, or of those of another recipe, these knobs turned."""
    run = Run.start(store, flow="full-lifecycle", recipe="made-up", settings=[])
    chain = {}
    for name, inputs in stages.items():
        if name == stop_before:
            break
        config = CONFIGS[name](knob=knobs.get(name, 0), same_bytes=name == same_bytes)
        made = store.make(make, config, *(chain[part] for part in inputs))
        run.add(made)
        chain[name] = made.artifact
    run.end("COMPLETED")
    return Recorded(store, run)


def configs(**knobs: int) -> dict[str, StageConfig]:
    return {name: CONFIGS[name](knob=knobs.get(name, 0)) for name in INPUTS}


def climb(stage, good, bad, **knobs):
    """The chain of one rung, and the stages that were made again for it."""
    made = []

    def remake(name, config, inputs):
        made.append(name)
        return good.store.make(make, config, *inputs).artifact

    return rung(stage, good, bad, configs(**knobs), remake), made


def test_only_the_stages_that_differ_by_themselves_are_named_with_what_differs(store):
    found = differences(recorded(store), recorded(store, pretrain=3, preference=7))
    assert found == {
        "pretrain": "knob 0 in the good run, 3 in the bad one",
        "preference": "knob 0 in the good run, 7 in the bad one",
    }, "sft differs too, but only because pretrain does"


def test_two_runs_of_one_recipe_do_not_differ(store):
    assert differences(recorded(store), recorded(store)) == {}


def test_below_a_swapped_stage_only_what_hangs_on_it_is_made_again_by_the_bad_recipe(store):
    good, bad = recorded(store), recorded(store, pretrain=3, preference=7)
    chain, made = climb("pretrain", good, bad, pretrain=3, preference=7)
    assert made == ["preference"], "sft on the good base is what the good run has, and the rest both have"
    assert chain["pretrain"].digest == good.manifests["pretrain"].digest
    assert chain["sft"].digest == good.manifests["sft"].digest
    assert chain["preference"].manifest.config["knob"] == 7
    assert chain["preference"].digest not in {good.manifests["preference"].digest, bad.manifests["preference"].digest}


def test_the_last_stage_swapped_is_the_good_run(store):
    good, bad = recorded(store), recorded(store, pretrain=3, preference=7)
    chain, made = climb("preference", good, bad, pretrain=3, preference=7)
    assert made == []
    assert {name: part.digest for name, part in chain.items()} == {n: m.digest for n, m in good.manifests.items()}


def test_a_branch_above_which_nothing_changed_is_taken_from_the_bad_run(store):
    good, bad = recorded(store), recorded(store, corpus=1, comparisons=5)
    chain, made = climb("corpus", good, bad, corpus=1, comparisons=5)
    assert made == ["reward", "preference"]
    assert chain["comparisons"].digest == bad.manifests["comparisons"].digest


def test_runs_that_hold_out_other_items_are_refused(store):
    with pytest.raises(InputError, match="expected two runs that hold out the same items"):
        differences(recorded(store), recorded(store, suites=1))


def test_a_run_that_ended_before_its_candidate_is_refused(store):
    with pytest.raises(InputError, match="to have made a candidate, found that it ended COMPLETED"):
        differences(recorded(store), recorded(store, stop_before="sft"))


def test_a_run_that_leaves_stages_out_is_refused_beside_one_that_has_them(store):
    with pytest.raises(InputError, match="found comparisons, preference, reward in one of them only"):
        differences(recorded(store), recorded(store, stop_before="comparisons"))


def test_two_runs_that_adopt_a_base_are_compared_by_the_stages_they_have(store):
    adopts = inputs_among({"suites", "base", "demonstrations", "sft"})
    assert adopts["sft"] == ("base", "demonstrations"), "no stage trains a base"
    good, bad = recorded(store, stages=adopts), recorded(store, stages=adopts, base=1)
    assert (list(differences(good, bad)), good.candidate) == (["base"], "sft")
    chain, made = climb("base", good, bad, base=1)
    assert (made, chain["sft"].digest) == ([], good.manifests["sft"].digest)


def test_pretraining_that_goes_on_hangs_on_the_base_and_sft_on_what_it_made():
    continued = inputs_among(POSSIBLE_INPUTS)
    assert continued["pretrain"] == ("shards", "tokenizer", "base")
    assert continued["tokenizer"] == ("corpus", "base")
    assert continued["sft"] == ("pretrain", "demonstrations")


def test_a_recipe_that_changed_since_the_run_is_refused_by_the_name_of_the_stage(store):
    bad = recorded(store, sft=3)
    still_describes(configs(sft=3), bad)
    with pytest.raises(ConfigError, match=r"to describe its sft still, found another identity .* Run it once more"):
        still_describes(configs(sft=4), bad)
