"""The page of a run: what it shows, that it is safe, and that it is there for runs that ended early too."""

import re

import pytest

from lifecycle import __main__ as program
from lifecycle.diagnosis import verdict
from lifecycle.diagnosis.readings import Reading, Unmeasured
from lifecycle.errors import ContractError
from lifecycle.report import run_page
from lifecycle.runs import Run
from lifecycle.stages.gate import Floor, GateConfig, decide_gate
from lifecycle.store import Made, Store

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def blocked(store, make_report, answer, held_out, base, sft, demonstrations, tmp_path):
    """A run that was evaluated and held back, under a name of one's own."""

    def make(name: str, right: int) -> Run:
        run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=["sft.epochs=2"], name=name)
        report = make_report([answer(n, correct=n < right) for n in range(100)], checkpoint=sft.digest, name=name)
        (tmp_path / f"gate-{name}").mkdir()
        policy = GateConfig(rules=(Floor(metric="contract.greedy_correct", at_least=0.9),))
        decision = decide_gate(policy, report, out_dir=tmp_path / f"gate-{name}")
        made = {"suites": held_out[0], "pretrain": base, "demonstrations": demonstrations, "sft": sft}
        for label, artifact in {**made, "evaluate": report, "gate": decision}.items():
            run.add(Made(artifact, reused=label == "suites", seconds=1.0), label=label)
        run.end("BLOCKED", f"1 of 1 checks failed {HOSTILE}")
        return run

    return make


def test_a_run_that_was_held_back_reads_from_its_reason_to_its_lineage(store, blocked):
    page = run_page.html(store, blocked("a", 30))
    assert "<h1>Blocked</h1>" in page
    for title in ("What went wrong", "The chain", "What the loss covers", "Scores", "Lineage"):
        assert f">{title}" in page, title
    assert "python -m flows.full_lifecycle --recipe tiny --set sft.epochs=2" in page
    assert "Could not look" in page, "what was not measured is listed, not left out"


def test_nothing_from_outside_becomes_markup_and_nothing_is_loaded(store, blocked):
    page = run_page.html(store, blocked("a", 30))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_a_run_that_failed_early_has_a_page_too(store):
    run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name="early")
    run.end("FAILED", str(ContractError("chat protocols differ: sft has 1, evaluate has 2")))
    page = run_page.html(store, run)
    assert "<h1>Failed</h1>" in page
    assert "protocol: taught one way of speaking, asked in another" in page


def test_a_run_that_went_well_says_what_was_looked_for_and_what_could_not_be(store, blocked, monkeypatch):
    weak = {"probe": "copied", "strength": 0.1, "says": "a little of it", "source": "made up", "refuted_by": "nothing"}
    seen = Reading(problem="behaviour", seen="sft", stage="sft", **weak)
    blind = Unmeasured(probe="one_shot", problem="behaviour", why="nobody asked")
    monkeypatch.setattr(verdict, "PROBES", (lambda run: seen, lambda run: blind))
    run = blocked("a", 99)
    run.end("RELEASED", "it is live")
    page = run_page.html(store, run)
    assert "What went wrong" not in page
    assert "0 probes looked for six problems and saw nothing; 1 could not look" in page
    assert "a little of it" in page, "what is too weak to accuse is said all the same"
    assert "could not look: nobody asked" in page


def test_two_runs_side_by_side_show_where_they_part(store, blocked):
    page = run_page.html(store, blocked("a", 30), blocked("b", 60))
    assert "Beside b" in page
    assert ">0.3000<" in page
    assert ">0.6000<" in page
    assert "-0.3000 [" in page


def test_the_command_writes_the_page_and_says_where(store, blocked, capsys):
    run = blocked("a", 30)
    assert program.main(["report", "a", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.strip() == str(run.page)
    assert "<h1>Blocked</h1>" in run.page.read_text()
    assert program.main(["report", "evaluation", "a", "--store", str(store.root)]) == 0
    assert "May this model go live?" in run.evaluation_page.read_text()
    assert program.main(["diagnose", "a", "--store", str(store.root)]) == 0
    assert "a: BLOCKED, 70 of 100 answers wrong" in capsys.readouterr().out
