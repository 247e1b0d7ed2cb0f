"""From a run in a store to its page, and where people are told of it."""

import json

import pytest

from lifecycle import __main__ as program
from lifecycle.artifacts import EvalReport, Suites
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.report.evaluation import findings_of, write_report
from lifecycle.runs import Run
from lifecycle.stages.gate import Floor, GateConfig, Guard, decide_gate
from lifecycle.store import Made, Store

POLICY = GateConfig(
    rules=(
        Floor(metric="contract.greedy_correct", at_least=0.5),
        Guard(metric="contract.greedy_correct", margin=0.05),
    )
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def make_run(store, make_report, answer, held_out, tmp_path):
    """A run that asked 200 items and gated what came out."""

    def make(name: str, right: float, live: EvalReport | None = None) -> Run:
        run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=["sft.epochs=2"], name=name)
        suites: Suites = held_out[0]
        report = make_report([answer(n, correct=n % 100 < 100 * right) for n in range(200)], checkpoint=name[-1] * 64)
        (tmp_path / f"gate-{name}").mkdir()
        decision = decide_gate(POLICY, report, *([] if live is None else [live]), out_dir=tmp_path / f"gate-{name}")
        for artifact, label in ((suites, "suites"), (report, "evaluate"), (live, "evaluate_live"), (decision, "gate")):
            if artifact is not None:
                run.add(Made(artifact, reused=False, seconds=1.0), label=label)
        run.end("RELEASED" if decision.promote else "BLOCKED")
        return run

    return make


def test_a_run_is_compared_with_what_its_gate_compared_it_with(make_run):
    first = make_run("20261123-000000-a", 0.9)
    assert findings_of(first).live is None
    second = make_run("20261123-000001-b", 0.6, live=findings_of(first).report)
    findings = findings_of(second)
    assert findings.live.checkpoint_digest == "a" * 64
    assert findings.decision.verdict == "BLOCK"
    assert findings.suites.items == {"contract": 12}


def test_or_with_another_run_by_name(make_run):
    first, second = make_run("20261123-000000-a", 0.9), make_run("20261123-000001-b", 0.6)
    assert findings_of(second).live is None
    findings = findings_of(second, first)
    assert findings.opponent == first.name
    assert findings.lines["contract.greedy_correct"].difference.value == pytest.approx(-0.3)
    page = write_report(second, first).read_text()
    assert f"Difference from {first.name}" in page
    assert f"--against {first.name}" in page


def test_the_same_run_gives_the_same_page(make_run):
    run = make_run("20261123-000000-a", 0.9)
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_run_without_an_evaluation_is_refused_with_what_to_do(store):
    run = Run.start(store, flow="train-base", recipe="tiny", settings=[], name="20261123-000000-c")
    with pytest.raises(InputError, match=r"expected an evaluation in run 20261123-000000-c, found none"):
        findings_of(run)


def test_a_report_changed_after_it_was_sealed_is_not_drawn(make_run):
    run = make_run("20261123-000000-a", 0.9)
    items = findings_of(run).report.path / "items.parquet"
    content = bytearray(items.read_bytes())
    content[len(content) // 2] ^= 1
    items.write_bytes(content)
    with pytest.raises(DamagedArtifact):
        write_report(run)


def test_the_command_writes_the_page_and_show_says_where_it_is(make_run, store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    run = make_run("20261123-000000-a", 0.9)
    assert program.main(["show", run.name, "--store", str(store.root)]) == 0
    assert f"python -m lifecycle report --store {store.root} {run.name}" in capsys.readouterr().out
    assert program.main(["report", "evaluation", "20261123", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.strip() == str(run.evaluation_page)
    assert "sft.epochs=2" in run.evaluation_page.read_text()
    assert program.main(["show", run.name, "--store", str(store.root)]) == 0
    assert run.evaluation_page.as_uri() in capsys.readouterr().out
    assert program.main(["show", run.name, "--json", "--store", str(store.root)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["evaluation"] == str(run.evaluation_page)


def test_a_page_drawn_later_does_not_move_the_end_of_a_crashed_run(store):
    run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name="20261123-000000-d")
    run._alive.close()
    last = max(path.stat().st_mtime for path in run.folder.glob("*.json"))
    run.page.write_text("later")
    assert run.declare_crashed().ended == last
