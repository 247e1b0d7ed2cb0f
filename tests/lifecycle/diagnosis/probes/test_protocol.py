"""Masks that are off, late or without the stop token, by what SFT and its checkpoint left behind."""

from types import SimpleNamespace

import pytest
from made_up_runs import asked, blind, look, manifest

from lifecycle.data.jsonl import write_rows
from lifecycle.diagnosis.probes import protocol


@pytest.mark.parametrize(("trained", "strength"), [(0.20, 0.0), (0.28, 0.0), (0.45, 0.5), (0.65, 1.0)])
def test_a_training_loss_far_above_the_held_out_one_covers_other_tokens(trained, strength):
    """Over .20: 1, 1.4 and 3.25 times are what the fault bench saw of a healthy run, a rate too low, a mask off."""
    curves = {("sft", "loss"): [(10 * n, trained) for n in range(1, 31)], ("sft", "dev/loss"): [(300, 0.20)]}
    found = look("training_and_held_out_loss", curves=curves, manifests={"sft": manifest()})
    assert found.strength == pytest.approx(strength, abs=1e-3)


def demonstrated(tmp_path, *answers):
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]} for answer in answers
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    return {"demonstrations": tmp_path, "sft": tmp_path}


def opened(tmp_path, odd, *, learned=0.99, shown=('{"a":1}', "Sure: 1") * 20):
    answers = [asked(n, "null}" if n < odd else '{"a":1}') for n in range(100)]
    made = {"folders": demonstrated(tmp_path, *shown), "earlier": SimpleNamespace(asked=answers)}
    return {**made, "manifests": {"sft": manifest()}, "curves": {("sft", "token_accuracy"): [(300, learned)]}}


def test_answers_that_open_as_nothing_that_was_shown(tmp_path):
    found = look("answers_after_sft_open", **opened(tmp_path, 90))
    assert (found.strength, found.examples[0]) == (1, "null}")
    assert look("answers_after_sft_open", **opened(tmp_path, 2)).strength == 0


def test_who_learned_nothing_opens_anyhow(tmp_path):
    assert look("answers_after_sft_open", **opened(tmp_path, 90, learned=0.6)).strength == 0


def test_where_demonstrations_open_in_many_ways_another_one_is_no_news(tmp_path):
    shown = [f"{chr(97 + n % 26)}{chr(97 + n // 26)} begins" for n in range(400)]
    assert look("answers_after_sft_open", **opened(tmp_path, 90, shown=shown)).strength == 0


def test_without_a_report_on_sft_nothing_is_said_of_how_it_opens(tmp_path):
    made = opened(tmp_path, 90)
    assert "--measure" in blind("answers_after_sft_open", **{**made, "earlier": None})


def test_a_stop_token_is_no_news_of_a_checkpoint_that_answers_little():
    """Twenty right answers of a hundred run on, and all others are wrong: it has not learned to answer yet."""
    ran_on = [asked(n, '{"a":1} and so', unmeasured="truncated") for n in range(20)]
    made = {"manifests": {"evaluate": manifest({"max_new_tokens": 32}), "sft": manifest()}}
    little = SimpleNamespace(asked=[*ran_on, *(asked(n, "x", 0.0) for n in range(20, 100))])
    assert look("answers_after_sft_end", earlier=little, **made).strength == 0
    much = SimpleNamespace(asked=[*ran_on, *(asked(n) for n in range(20, 100))])
    assert look("answers_after_sft_end", earlier=much, **made).strength > 0.4


def test_conversations_that_were_left_out_are_not_rendered_again(tmp_path, monkeypatch):
    """Short ones are all answer and fit; of the long ones, which were left out, a tenth is answer."""
    rendered = {"x": SimpleNamespace(ids=[0] * 10, assistant_mask=[1] * 10)}
    rendered["y"] = SimpleNamespace(ids=[0] * 100, assistant_mask=[1] * 10 + [0] * 90)
    renderer = SimpleNamespace(render=lambda messages: rendered[messages[-1]["content"]])
    monkeypatch.setattr(protocol, "load_renderer", lambda folder: renderer)
    made = {"folders": demonstrated(tmp_path, *"xyxy")}
    facts = {"supervised_share": 1.0, "max_seq_len": 50}
    assert look("supervised_tokens", **made, manifests={"sft": manifest(**facts)}).strength == 0
    wide = manifest(**{**facts, "max_seq_len": 200})
    assert look("supervised_tokens", **made, manifests={"sft": wide}).strength == 1
    assert "were cut" in blind("supervised_tokens", **made, manifests={"sft": manifest(**facts, cut_rows=3)})
