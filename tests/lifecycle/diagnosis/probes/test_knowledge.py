"""Text that says nothing of what comes next, text unlike the questions, and training that learned nothing."""

import random
from types import SimpleNamespace

import pytest
from made_up_runs import blind, look, manifest

from lifecycle.data.jsonl import write_rows


def corpus_of(tmp_path, *, shuffled):
    """Sentences in which each of 300 nouns has a verb of its own: what comes next is mostly known."""
    drawn = random.Random(1)
    rows = []
    for _ in range(300):
        nouns = [drawn.randrange(300) for _ in range(20)]
        words = " ".join(f"the noun{noun} verb{noun} and" for noun in nouns).split()
        if shuffled:
            drawn.shuffle(words)
        rows.append({"source": "tales", "text": " ".join(words)})
    write_rows(tmp_path / "train.jsonl", [*rows, {"source": "records", "text": '{"a":1}'}])
    return {"folders": {"corpus": tmp_path}, "manifests": {"corpus": manifest()}}


def test_words_in_no_order_teach_nothing_of_what_comes_next(tmp_path):
    found = look("words_in_order", **corpus_of(tmp_path, shuffled=True))
    assert (found.strength, found.stage) == (1, "corpus")
    assert "records" not in found.source, "an object without blanks is one word, and has no order"


def test_sentences_are_in_order(tmp_path):
    assert look("words_in_order", **corpus_of(tmp_path, shuffled=False)).strength == 0


def test_a_few_words_are_too_few_to_say(tmp_path):
    write_rows(tmp_path / "train.jsonl", [{"source": "tales", "text": "the cat saw a hat"}])
    assert "no source has" in blind("words_in_order", folders={"corpus": tmp_path}, manifests={"corpus": manifest()})


PLATEAU = "the watchdog ended the run in step 200 by its rule unigram_plateau: expected a run that learns"


class Base:
    """A stage that was not sealed, as `Records.unsealed` names it."""

    parent = type("Stage", (), {"name": "pretrain"})


def test_a_base_that_learned_nothing_lacks_knowledge_and_a_rate_that_suits_is_the_first_thing_to_try():
    shape = {"hidden_size": 96, "layers": 3, "heads": 2, "kv_heads": 2, "intermediate_size": 256}
    made = {"state": "FAILED", "message": PLATEAU, "unsealed": Base, "ended_in": "pretrain"}
    words = {"tokenizer": manifest(vocab_size=768)}
    made |= {"manifests": words, "config": lambda stage: {"learning_rate": 3e-5, "model": shape}}
    found = look("learned_nothing", **made)
    assert (found.strength, found.problem) == (1, "knowledge")
    assert [knob.settings for knob in found.knobs] == [("pretrain.learning_rate=0.003",)], "406,176 weights"
    assert look("how_it_ended", **made).strength == 0, "no fault of the machine"


@pytest.mark.parametrize(("state", "message"), [("BLOCKED", PLATEAU), ("COMPLETED", "")])
def test_a_run_that_did_not_fail_learned_something(state, message):
    made = {"state": state, "message": message, "ended_in": None}
    assert look("learned_nothing", manifests={"pretrain": manifest({"learning_rate": 3e-3})}, **made).strength == 0
    assert "no base of its own" in blind("learned_nothing", **made)


def test_a_loss_that_is_not_finite_is_the_machines(tmp_path):
    made = {"state": "FAILED", "message": "the loss is not finite at step 12", "ended_in": "pretrain"}
    assert look("learned_nothing", **made).strength == 0
    assert look("how_it_ended", **made).strength == 1


def test_filters_that_empty_a_source_end_the_run_and_say_so():
    message = "expected documents of every source to train and to validate on, found 6202 in all and none of ['x']"
    found = look("corpus_kept", state="FAILED", message=message, ended_in="corpus")
    assert (found.strength, found.stage) == (1, "corpus")
    assert "no corpus" in blind("corpus_kept", state="FAILED", message="no space left", ended_in="corpus")


@pytest.mark.parametrize(("tokens", "steps"), [(10_000, 300), (400_000, 20)])
def test_a_base_is_trained_at_least_as_long_as_its_size_needs(tokens, steps):
    """400,000 weights want 300,000 tokens: 30 times 10,000, or twice what is enough already."""
    facts = {"steps": 10, "parameters": 400_000, "tokens_seen": tokens}
    made = {"manifests": {"pretrain": manifest({"horizon": {"kind": "steps", "steps": 10}}, **facts)}}
    made["report"] = SimpleNamespace(baselines={"bigram_bits_per_byte.x": 2.0})
    found = look("bits_per_byte", curves={("pretrain", "bits_per_byte/x"): [(10, 4.0)]}, **made)
    assert found.knobs[0].settings == (f"pretrain.horizon.steps={steps}",)
