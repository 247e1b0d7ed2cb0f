"""A person approves what the gate let through: asked by a run that has ended, answered in the form of another."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httpx
import pytest
from browser import field, logged_in, submit

from lifecycle.audit import audit
from lifecycle.ledger import Ledger
from lifecycle.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow  # 60 s beside the servers' start: one chain of a few steps

# So few steps that starting the processes is most of it, and none that another test of this folder waits for.
FEW_STEPS = ["pretrain.horizon.steps=12", "pretrain.seed=4", "sft.epochs=0.2", "preference.epochs=0.25"]
ASKED = [*FEW_STEPS, "gate.approval=required"]
ENDED = {"AwaitingApproval", "Released", "Blocked", "Failed", "Crashed"}


@pytest.fixture(scope="module")
def page(house) -> Iterator["Page"]:
    with logged_in(house) as page:
        yield page


@pytest.fixture(scope="module")
def waiting(house) -> Iterator[str]:
    """A run that awaits approval."""
    worker = house.start_worker()
    run = house.run("full-lifecycle/full-lifecycle", settings=ASKED)
    house.wait_for(lambda: house.state(run) in ENDED, 400, every=2)
    yield run
    worker.terminate()
    worker.wait(30)


def live(house) -> str | None:
    entry = Ledger(Store(house.store)).live()
    return entry.release if entry else None


def approval(house, run: str) -> str:
    """What the run shows to whoever is to approve."""
    wanted = {"flow_run_id": {"any_": [run]}, "key": {"any_": ["approval"]}}
    (artifact,) = house.api("POST", "/artifacts/filter", artifacts=wanted)
    return str(artifact["data"])


def ended(house, run: str) -> dict:
    house.wait_for(lambda: house.state(run) in ENDED, 120, every=1)
    return dict(house.api("GET", f"/flow_runs/{run}"))


def test_a_run_that_passed_ends_awaiting_approval_and_leaves_nothing_running(house, waiting):
    found = house.api("GET", f"/flow_runs/{waiting}")
    assert found["state_name"] == "AwaitingApproval", found["state"]["message"]
    assert found["state_type"] == "COMPLETED"
    record = json.loads((house.store / "runs" / found["name"] / "run.json").read_text())
    assert record["state"] == "AWAITING_APPROVAL"
    house.wait_for(lambda: house.processes() == [], 10)  # it has said how it ended, and is on its way out

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    uri, user, password = (house.environment[name] for name in names)
    with httpx.Client(auth=(user, password), timeout=30) as client:
        experiments = client.get(f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=micro").json()
        question = {
            "experiment_ids": [experiments["experiment"]["experiment_id"]],
            "filter": f"tags.`lifecycle.key` = '{found['name']}'",
        }
        (run,) = client.post(f"{uri}/api/2.0/mlflow/runs/search", json=question).json()["runs"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["lifecycle.state"] == "AWAITING_APPROVAL"


def test_it_does_not_go_live_without_an_approver(house, waiting):
    before = live(house)
    (release,) = re.findall(r"--release ([0-9a-f]{12})", approval(house, waiting))
    found = house.api("GET", "/deployments/name/promote/promote")
    asked = {"recipe": house.api("GET", f"/flow_runs/{waiting}")["parameters"]["request"]["recipe"], "release": release}
    parameters = {"request": {**asked, "settings": ASKED, "reason": "it looked good"}}
    run = house.api("POST", f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"]
    refused = ended(house, run)
    assert refused["state_name"] == "Failed"
    assert "ApprovalMissing" in refused["state"]["message"]
    assert live(house) == before


def test_the_form_that_the_run_links_to_shows_the_decision_and_takes_approver_and_reason(house, page, waiting):
    (link,) = re.findall(r"\]\((http[^)]+/run\?parameters=[^)]+)\)", approval(house, waiting))
    filled = json.loads(unquote(unquote(link.partition("parameters=")[2])))["request"]
    page.goto(link)
    field(page, "Decision").wait_for()
    assert field(page, "Decision").input_value() == filled["decision"]
    assert re.match(r"[0-9a-f]{12} PROMOTE: all \d+ checks passed", filled["decision"])
    assert field(page, "Release").input_value() == filled["release"]
    assert field(page, "Approver").input_value() == "", "who says so is not filled in"
    field(page, "Approver").fill("Ada Lovelace")
    field(page, "Reason").fill("Forty answers read, all of them right.")
    submit(page)

    def promoted() -> list[dict]:
        found = house.runs(deployments={"name": {"any_": ["promote"]}})
        return [run for run in found if run["parameters"]["request"].get("approver") == "Ada Lovelace"]

    (run,) = house.wait_for(promoted, 30)
    approved = ended(house, run["id"])
    assert approved["state_name"] == "Released", approved["state"]["message"]
    store = Store(house.store)
    entry = Ledger(store).live()
    assert entry.release.startswith(filled["release"])
    assert (entry.approver, entry.reason) == ("Ada Lovelace", "Forty answers read, all of them right.")
    assert audit(store).first_break is None
