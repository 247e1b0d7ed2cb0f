"""Drift that was measured in training reaches the gate as evidence with an interval, or as none."""

import pytest

from lifecycle.data.jsonl import write_rows
from lifecycle.evaluation.kinds import drift
from lifecycle.stages.gate import Ceiling, GateConfig, decide_gate


@pytest.fixture
def checkpoint(tmp_path):
    answers = [drift.answer_record(f"answer-{n}", kl=2.0 + n % 3, tokens=4) for n in range(60)]
    pairs = [drift.pair_record(f"pair-{n}", margin=1.0 if n % 10 else -1.0, change=-0.25) for n in range(40)]
    write_rows(tmp_path / drift.RECORDS, [*answers, *pairs])
    return tmp_path


def test_records_add_up_to_means_over_answers_and_pairs(checkpoint):
    found = drift.measures(list(drift.items(checkpoint)))
    mean = {name: sum(m.values.values()) / len(m.values) for name, m in found.items()}
    assert mean == {"kl": 3.0, "kl_token": 0.75, "preferred": 0.9, "chosen_fall": pytest.approx(0.25)}
    assert [m.higher_is_better for m in found.values()] == [False, False, True, False]


def test_a_checkpoint_that_nobody_watched_has_no_records(tmp_path):
    assert list(drift.items(tmp_path)) == []


@pytest.mark.parametrize(("at_most", "verdict"), [(4.0, "PASS"), (2.5, "FAIL"), (3.05, "INCONCLUSIVE")])
def test_the_gate_decides_on_the_interval_of_the_kl(checkpoint, make_report, answer, out_dir, at_most, verdict):
    items = [*(answer(n) for n in range(50)), *drift.items(checkpoint)]
    report = make_report(items, contamination={})
    config = GateConfig(rules=(Ceiling(metric="drift.kl", at_most=at_most),))
    assert decide_gate(config, report, out_dir=out_dir).checks[0].verdict == verdict


def test_a_ceiling_on_drift_that_was_not_measured_is_unmeasured(make_report, answer, out_dir):
    config = GateConfig(rules=(Ceiling(metric="drift.kl", at_most=4.0),))
    decision = decide_gate(config, make_report([answer(n) for n in range(50)]), out_dir=out_dir)
    assert decision.checks[0].verdict == "UNMEASURED"
    assert not decision.promote
