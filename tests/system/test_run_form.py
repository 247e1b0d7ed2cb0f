"""What a person sees and does who presses Run in the Prefect UI: headless Chromium on a real server."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser import add_item, field, logged_in, open_form, submit

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow  # 20 s beside the servers' start

PREPARE_DATA, PROMOTE = "prepare-data/prepare-data", "promote/promote"
REQUEST = [
    "Recipe",
    "Settings",
    "Rebuild",
    "Accept drift",
    "Store",
    "Run",
    "Canary",
    "Budget in hours",
    "Engine",
    "Workers",
    "Cluster",
]
PROMOTION = ["Release", "Reason", "Expected champion", "Approver", "Decision"]


@pytest.fixture(scope="module")
def page(house) -> Iterator["Page"]:
    with logged_in(house) as page:
        yield page


def titles(page: "Page") -> list[str]:
    """The words above the fields of the form, in their order."""
    words = [label.inner_text().strip().removesuffix(" (Optional)") for label in page.locator("label").all()]
    return [word for word in words[words.index("request") + 1 : words.index("Validate parameters")] if word]


def runs_of(house, deployment: str) -> dict[str, dict]:
    """Runs of a deployment that nobody scheduled, by their id."""
    found = house.api("GET", f"/deployments/name/{deployment}")
    return {
        run["id"]: run for run in house.runs(deployments={"id": {"any_": [found["id"]]}}) if not run["auto_scheduled"]
    }


def test_the_form_shows_every_field_by_its_title_and_no_choice_of_types(house, page):
    open_form(house, page, "full-lifecycle/canary")
    assert titles(page) == REQUEST
    assert page.get_by_role("button", name="None", exact=True).count() == 0
    assert field(page, "Canary").is_checked(), "the deployment's own values are filled in"


def test_a_promotion_asks_first_for_what_it_is_about(house, page):
    open_form(house, page, PROMOTE)
    assert titles(page) == PROMOTION + REQUEST


def test_a_run_starts_with_the_values_that_were_typed(house, page):
    before = runs_of(house, PREPARE_DATA)
    open_form(house, page, PREPARE_DATA)
    field(page, "Recipe").fill("nobody_has_this_recipe")  # should a worker be there, it has nothing to do
    add_item(page, "Settings", "corpus.validation_share=0.5")
    field(page, "Workers").fill("3")
    field(page, "Canary").dispatch_event("click")  # drawn as a switch: the box itself is hidden below it
    submit(page)
    started = house.wait_for(lambda: runs_of(house, PREPARE_DATA).keys() - before.keys(), 30)
    (run,) = started
    request = house.api("GET", f"/flow_runs/{run}")["parameters"]["request"]
    house.api("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLED"}, force=True)
    assert request["recipe"] == "nobody_has_this_recipe"
    assert request["settings"] == ["corpus.validation_share=0.5"]
    assert request["workers"] == 3
    assert request["canary"] is True
    assert request["engine"] == "processes", "what was not touched stays as the deployment has it"


@pytest.mark.parametrize(
    ("deployment", "title", "value", "said"),
    [
        (PREPARE_DATA, "Workers", "-1", "-1 is less than the minimum of 0"),
        (PREPARE_DATA, "Run", "../elsewhere", "'../elsewhere' does not match"),
        (PROMOTE, "Release", "ab", "'ab' is too short"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_the_name_of_its_field_and_nothing_starts(
    house, page, deployment, title, value, said
):
    before = runs_of(house, deployment)
    open_form(house, page, deployment)
    if deployment == PROMOTE:
        field(page, "Reason").fill("it passed")
    field(page, title).fill(value)
    submit(page)
    page.get_by_text(f"'request.{title.lower()}'").filter(has_text=said).first.wait_for()
    assert runs_of(house, deployment).keys() == before.keys()
