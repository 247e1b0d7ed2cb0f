"""What wins against what was demonstrated, and a gated score that fell while answers stayed right."""

from types import SimpleNamespace

import pytest
from made_up_runs import asked, look, manifest

from lifecycle.artifacts import Score
from lifecycle.data.jsonl import write_rows


def said(text):
    return [{"role": "assistant", "content": text}]


def taught(tmp_path, chatty):
    shown, compared = tmp_path / "shown", tmp_path / "compared"
    for folder in (shown, compared):
        folder.mkdir()
    write_rows(shown / "train.jsonl", [{"messages": said('{"a":1}')}] * 10)
    pairs = [("Of course: 1" if n < chatty else '{"a":1}', '{"a":2}') for n in range(100)]
    write_rows(
        compared / "train.jsonl",
        [{"id": f"c{n}", "chosen": said(win), "rejected": said(lose)} for n, (win, lose) in enumerate(pairs)],
    )
    return {"folders": {"demonstrations": shown, "comparisons": compared}}


@pytest.mark.parametrize(("chatty", "strength"), [(0, 0.0), (20, 0.0), (45, 0.5), (100, 1.0)])
def test_winners_that_open_as_nothing_that_was_demonstrated(tmp_path, chatty, strength):
    found = look("winners_as_demonstrated", **taught(tmp_path, chatty))
    assert (found.strength, found.stage) == (pytest.approx(strength), "comparisons")


def test_right_answers_in_a_manner_nobody_asked_for_are_a_loss():
    """No answer became wrong, and the share that is exact fell from .60 at least to .55 at most."""
    metric, answers = "contract.sampled_exact", [asked(n) for n in range(100)]

    def report(low, high):
        score = Score(mean=(low + high) / 2, low=low, high=high, items=100)
        return SimpleNamespace(asked=answers, scores={metric: score})

    check = SimpleNamespace(metric=metric)
    made = {"asked": answers, "decision": SimpleNamespace(checks=[check]), "earlier": report(0.60, 0.74)}
    made |= {"manifests": {"preference": manifest(), "sft": manifest()}}
    found = look("before_and_after", report=report(0.41, 0.55), **made)
    assert found.strength == pytest.approx((0.05 - 0.01) / 0.07, abs=1e-3)
    assert found.says.startswith("contract.sampled_exact fell by 5.0% or more")
    assert look("before_and_after", report=report(0.50, 0.64), **made).strength == 0, "the intervals overlap"
