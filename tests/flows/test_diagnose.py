"""The flow that looks at a run: what it leaves in the UI and on disk, and that it makes no run of its own."""

import pytest

from flows import cli
from lifecycle.runs import all_runs
from lifecycle.store import Store
from tasks.session import DiagnosisRequest


def names(champion):
    return [run.name for run in all_runs(Store(champion.store))]


def test_a_run_is_diagnosed_against_another_and_leaves_a_page_and_no_run(champion):
    champion("full_lifecycle", "--set", "preference.quality=0.6")
    before = names(champion)
    bad, good = before[0], before[-1]
    ended = champion("diagnose", "--run", bad, "--against", good)
    assert ended.code == 0, ended.text
    assert f"{bad}: no probe sees a cause" in ended.text
    page = champion.store / "runs" / bad / f"report-against-{good}.html"
    assert str(page) in ended.text
    assert f"Beside {good}" in page.read_text()
    (sent,) = champion.store.glob(f"mlartifacts/**/{page.name}")
    assert sent.read_bytes() == page.read_bytes(), "what was drawn again, MLflow shows"
    assert names(champion) == before


def test_a_run_that_is_not_there_is_refused_in_one_sentence(champion):
    ended = champion("diagnose", "--run", "nobody")
    assert ended.code == 2
    assert "expected one run 'nobody', found 0" in ended.text


def test_the_form_asks_for_the_run_first_and_holds_its_bounds():
    fields = DiagnosisRequest.model_json_schema()["properties"]
    assert sorted(fields, key=lambda name: fields[name]["position"]) == ["run", "against", "measure", "items", "store"]
    assert all(field["title"] and field["description"] for field in fields.values())
    assert (fields["items"]["minimum"], fields["items"]["maximum"]) == (30, 1000)


def test_the_command_line_takes_what_the_form_takes(tmp_path):
    request = cli.parse("diagnose", ["--run", "a", "--against", "b", "--measure", "--store", str(tmp_path)])
    assert request == DiagnosisRequest(run="a", against="b", measure=True, store=str(tmp_path))
    with pytest.raises(cli.ConfigError, match="--items"):
        cli.parse("diagnose", ["--items", "3"])
