"""`python -m lifecycle show`: what is in a store, for people and for programs, in under a second."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from lifecycle import __main__ as program
from lifecycle.artifacts import Check, GateDecision, Suites
from lifecycle.runs import Run, all_runs
from lifecycle.sealing import StageConfig
from lifecycle.store import Store


class ItemsConfig(StageConfig):
    stage: ClassVar[str] = "suites"


class VerdictConfig(StageConfig):
    stage: ClassVar[str] = "gate"


def collect(config: ItemsConfig, *, out_dir: Path) -> Suites:
    return Suites(path=out_dir, items={"contract": 1200}, baselines={}).seal(config)


def block(config: VerdictConfig, suites: Suites, *, out_dir: Path) -> GateDecision:
    worse = {"candidate": 0.5, "live": 0.9, "difference": -0.4, "low": -0.45, "high": -0.35, "items": ["item-7"]}
    check = Check(metric="contract.exact", rule="guard", verdict="FAIL", reason="worse than the live release", **worse)
    digests = {"checkpoint_digest": "c" * 64, "report_digest": "r" * 64}
    return GateDecision(path=out_dir, verdict="BLOCK", **digests, against="l" * 64, checks=[check]).seal(config, suites)


@pytest.fixture
def store(tmp_path) -> Store:
    """One run of two stages that ended blocked, and one that crashed before its first stage."""
    store = Store(tmp_path / "store")
    run = Run.start(
        store, flow="full-lifecycle", recipe="tiny", settings=["sft.epochs=2"], name="20261123-060000-aaaaaa"
    )
    suites = store.make(collect, ItemsConfig())
    run.add(suites)
    run.add(store.make(block, VerdictConfig(), suites.artifact))
    run.end("BLOCKED", "contract.exact did not pass")
    crashed = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[], name="20261123-070000-bbbbbb")
    crashed._alive.close()  # what the kernel does when the process dies
    return store


def test_show_lists_runs_with_the_state_of_a_dead_process_corrected(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert program.main(["show", "--store", str(store.root)]) == 0
    text = capsys.readouterr().out
    assert text.index("bbbbbb") < text.index("aaaaaa"), "the newest run comes first"
    assert "CRASHED" in text
    assert "BLOCKED" in text
    assert "live: nothing yet" in text


def test_show_of_one_run_gives_stages_numbers_and_the_reasons_of_the_gate(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert program.main(["show", "20261123-06", "--store", str(store.root)]) == 0
    text = capsys.readouterr().out
    assert "1,200 held-out items" in text
    assert "FAIL contract.exact (guard): candidate 0.5000, live 0.9000, difference -0.4000" in text
    assert "got worse: item-7" in text


def test_show_for_programs_is_json_with_the_same_content(store, capsys):
    assert program.main(["show", "--json", "--store", str(store.root)]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in seen["runs"]] == ["CRASHED", "BLOCKED"]
    blocked = seen["runs"][1]
    assert [stage["stage"] for stage in blocked["stages"]] == ["suites", "gate"]
    assert blocked["decision"]["verdict"] == "BLOCK"
    assert seen["live"] is None


def test_a_crashed_run_can_be_written_down_as_such(store):
    crashed = next(run for run in all_runs(store) if run.name.endswith("bbbbbb"))
    record = crashed.declare_crashed()
    assert (record.state, crashed.record.state) == ("CRASHED", "CRASHED")
    assert record.ended >= record.started


def test_a_run_that_is_still_at_work_is_running(tmp_path):
    store = Store(tmp_path)
    run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[])
    assert Run(run.folder).state == "RUNNING"
    run.end("COMPLETED")
    assert Run(run.folder).state == "COMPLETED"


def test_an_unknown_run_or_store_is_refused_in_one_sentence(store, tmp_path, capsys):
    assert program.main(["show", "1999", "--store", str(store.root)]) == 2
    assert "20261123-070000-bbbbbb" in capsys.readouterr().err
    assert program.main(["show", "--store", str(tmp_path / "nowhere")]) == 2
    assert "--store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists(), "looking makes nothing"


def test_looking_imports_nothing_heavy():
    script = (
        "import sys, json, lifecycle.__main__\n"
        "heavy = ('prefect', 'mlflow', 'torch', 'numpy', 'tokenizers')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == []
