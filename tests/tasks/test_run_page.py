"""What a run shows to whoever opens its page, and when its budget is spent."""

from types import SimpleNamespace

import pytest
from releases import make_release, store_in_memory

from lifecycle.runs import Run
from lifecycle.store import Made
from tasks import budget, run_page
from tasks.tracking import MlflowRecords


@pytest.fixture
def session(tmp_path):
    with store_in_memory(tmp_path) as store:
        run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=["sft.epochs=2"], name="run-1")
        run.add(Made(make_release(store, "a"), reused=False, seconds=75.0, notes=[]), label="release")
        run.add(Made(make_release(store, "b"), reused=True, seconds=0.0, notes=[]), label="again")
        tracker = SimpleNamespace(page_of=lambda name: f"http://mlflow/{name}")
        yield SimpleNamespace(run=run, tracker=tracker, state="RELEASED", message="all | passed\nagainst live")


def test_a_run_is_summed_up_in_one_table_with_links(session):
    page = run_page.page_of(session)
    assert page.startswith("# run-1: RELEASED\n\nall &#124; passed against live\n")
    assert "Recipe `tiny`, `sft.epochs=2`" in page
    assert "| release | made | 1:15 | exact 0.900 |" in page
    assert "| again | reused |  | exact 0.900 |" in page
    assert "(http://mlflow/run-1)" in page
    assert f"`{session.run.folder}`" in page
    assert "report:" not in page, "a page that was not drawn is not linked to"


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("https://ann:secret@mlflow.example:5000/base/", "https://mlflow.example:5000/base/#/experiments/3/runs/abc"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_a_link_to_mlflow_holds_no_password_and_a_file_has_none(uri, page):
    records = MlflowRecords.__new__(MlflowRecords)  # no client: nothing is asked of a server
    records.uri, records.is_local = uri, not uri.startswith("http")
    records._experiments, records._runs = {"tiny": "3"}, {"run-1": "abc"}
    assert records.page_of("run-1", "tiny") == page
    assert records.page_of("nobody", "tiny") is None


def test_what_nobody_has_measured_has_no_limit_and_seconds_have_a_generous_one():
    assert [budget.allowed(usual) for usual in (0.0, 2.0, 100.0)] == [0.0, 120.0, 300.0]
