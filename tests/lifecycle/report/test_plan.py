"""The plan as data and as a screen, and the command that prints it from a run's reports."""

import json

from rich.console import Console

from lifecycle import __main__ as program
from lifecycle.evaluation.evidence import Share
from lifecycle.evaluation.rules import Floor, Guard
from lifecycle.report.plan import plan, screen
from lifecycle.runs import Run
from lifecycle.store import Made, Store

RULES = (Floor(metric="math.right", at_least=0.6), Guard(metric="math.right", margin=0.05))


def shares(wrong):
    return {"math.right": Share({f"i{n}": n % 10 not in wrong for n in range(200)})}


def test_a_plan_names_items_and_rates_now_and_as_planned():
    data = plan(RULES, shares({0, 1}), shares({1, 2}), alpha=0.05, looks=1, histories=200)
    floor, guard = data["rules"]
    # 20 % changed sides: ((1.645 + 1.960) / 0.05)^2 * 0.2 = 1039.6, with two rules
    assert guard["needed"] == 1040
    assert (floor["available"], floor["fault"]) == (200, None)
    assert data["items_by_suite"] == {"math": 1040}
    now, then = data["as_it_is"]["as good as asked"], data["as_planned"]["as good as asked"]
    assert now["promoted"] < 0.6 < 0.9 < then["promoted"]
    console = Console(width=160, record=True)
    console.print(screen(data, "a pilot"))
    text = console.export_text()
    for said in ("1,040", "With the items there are", "With the items needed", "math: items=1040"):
        assert said in text


def test_a_rule_without_a_pilot_has_no_rates():
    data = plan((*RULES, Guard(metric="x.y", margin=0.1)), shares({0}), None, alpha=0.05, looks=1, histories=50)
    assert "no report has the metric 'x.y'" in data["rules"][2]["fault"]
    assert "as_it_is" not in data


def test_plan_gate_reads_the_reports_of_a_run(tmp_path, make_report, answer, capsys):
    items = [answer(n, correct=n % 20 > 0) for n in range(300)]
    items += [answer(n, mode="sampled", correct=n % 9 > 0, terse=n % 3 > 0) for n in range(300)]
    store = Store(tmp_path / "store")
    run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name="pilot")
    run.add(Made(make_report(items), reused=False, seconds=1.0, notes=[]), label="evaluate")
    run.end("COMPLETED")
    assert program.main(["plan", "gate", "--store", str(store.root), "--histories", "100", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["metric"] for row in data["rules"]} >= {"contract.greedy_correct"}
    assert "as good as asked" in data["as_it_is"]
    assert program.main(["plan", "gate", "--store", str(store.root), "--histories", "100"]) == 0
    assert "Items each rule needs" in capsys.readouterr().out


def test_plan_gate_without_an_evaluation_is_refused(tmp_path, capsys):
    store = Store(tmp_path / "store")
    Run.start(store, flow="prepare-data", recipe="tiny", settings=[], name="none").end("COMPLETED")
    assert program.main(["plan", "gate", "--store", str(store.root)]) == 2
    assert "expected a run with an evaluation as the pilot" in capsys.readouterr().err
