"""The loop over looks, with an evaluation and a gate that take no time."""

from types import SimpleNamespace

import pytest

from flows import evaluate_release as flow
from lifecycle.artifacts import Check
from lifecycle.evaluation.rules import Floor
from lifecycle.stages.evaluate import EvaluateConfig
from lifecycle.stages.gate import GateConfig

RULE = Floor(metric="math.right", at_least=0.5, items=400)
# Imports Prefect, 2-5 s.
pytestmark = pytest.mark.slow


@pytest.fixture
def run_looks(monkeypatch):
    """Run the loop; `said` are the gate's verdicts in turn. Returns what was evaluated, and on top of what."""

    def run(looks, said, *, live=None, base=None):
        asked, verdicts = [], iter(said)

        def evaluate(_session, config, checkpoint, _suites, _corpus, *, earlier=None, demonstrations=None, label=None):
            asked.append((checkpoint, config.items_per_suite, earlier and earlier.number, label))
            return SimpleNamespace(number=len(asked))

        def decide(_session, _config, _report, _opponent, earlier=None, _baseline=None):
            verdict, following = next(verdicts)
            check = Check(
                metric="math.right", rule="floor", verdict=verdict, reason="", candidate=0.6, next_look=following
            )
            return SimpleNamespace(checks=[check], earlier=earlier)

        monkeypatch.setattr(flow, "evaluate", evaluate)
        monkeypatch.setattr(flow, "decide_gate", decide)
        monkeypatch.setattr(flow, "live_checkpoint", lambda _run, _candidate: live)
        recipe = SimpleNamespace(evaluate=EvaluateConfig(), gate=GateConfig(rules=(RULE,), looks=looks))
        suites, text = SimpleNamespace(items={"math": 1500}), SimpleNamespace(corpus="corpus")
        data = SimpleNamespace(suites=suites, text=text, base=base)
        trained = SimpleNamespace(candidate="candidate", demonstrations="demonstrations")
        _, decision = flow.looked_at(SimpleNamespace(recipe=recipe), data, trained)
        return asked, decision

    return run


def test_one_look_is_at_everything(run_looks):
    asked, _ = run_looks(1, [("INCONCLUSIVE", None)])
    assert asked == [("candidate", None, None, None)]


def test_an_open_question_is_asked_of_more_items_until_it_is_settled(run_looks):
    asked, decision = run_looks(4, [("INCONCLUSIVE", 200), ("INCONCLUSIVE", 300), ("PASS", None)])
    counts = [{"math": 100}, {"math": 200}, {"math": 300}]
    assert asked == [("candidate", items, before, None) for items, before in zip(counts, (None, 1, 2), strict=True)]
    assert decision.earlier.earlier.earlier is None, "each look knows the one before"


def test_the_live_model_is_looked_at_in_step(run_looks):
    asked, _ = run_looks(4, [("INCONCLUSIVE", 200), ("FAIL", 300)], live="live")
    assert [(model, label) for model, _, _, label in asked] == [("candidate", None), ("live", "evaluate_live")] * 2
    assert [earlier for *_, earlier, _ in asked] == [None, None, 1, 2]


def test_where_nothing_is_live_the_adopted_base_is_looked_at_in_step(run_looks):
    asked, _ = run_looks(1, [("INCONCLUSIVE", None)], base="base")
    assert [(model, label) for model, _, _, label in asked] == [("candidate", None), ("base", "evaluate_base")]
    asked, _ = run_looks(1, [("INCONCLUSIVE", None)], live="live", base="base")
    assert [(model, label) for model, _, _, label in asked] == [("candidate", None), ("live", "evaluate_live")]


def test_the_cap_ends_it_undecided(run_looks):
    asked, _ = run_looks(2, [("INCONCLUSIVE", 400), ("INCONCLUSIVE", None)])
    assert [items for _, items, _, _ in asked] == [{"math": 200}, {"math": 400}]
