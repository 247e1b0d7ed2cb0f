"""What a person sees who presses Run in the Prefect UI, looked at by headless Chromium on a real server."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(house) -> Iterator["Page"]:
    """A page that has logged in."""
    playwright = pytest.importorskip("playwright.sync_api", reason="comes with the dev extra")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as playing:
        # Chromium's sandbox needs namespaces that containers seldom have; the only pages seen here are our own.
        chromium = playing.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1200, "height": 1500})
        page.set_default_timeout(60_000)
        page.goto(ui(house, "dashboard"))
        page.locator("input[type=password]").fill(house.environment["PREFECT_API_AUTH_STRING"])
        page.locator("button[type=submit]").click()
        page.get_by_text("Flow Runs").first.wait_for()
        yield page
        chromium.close()


def ui(house, path: str) -> str:
    return f"{house.environment['PREFECT_API_URL'].removesuffix('/api')}/{path}"


def open_form(house, page: "Page", deployment: str) -> None:
    found = house.api("GET", f"/deployments/name/{deployment}")
    page.goto(ui(house, f"deployments/deployment/{found['id']}/run"))
    page.get_by_text("What to make").first.wait_for()


def labels(page: "Page") -> list[str]:
    return [label.inner_text().removesuffix(" (Optional)") for label in page.locator("label").all()]


def test_the_form_shows_every_field_by_its_title_and_no_choice_of_types(house, page):
    open_form(house, page, "full-lifecycle/canary")
    shown = labels(page)
    titles = ["Recipe", "Settings", "Rebuild", "Accept drift", "Store", "Run", "Engine", "Workers", "Cluster"]
    assert [label for label in shown if label in titles] == titles
    assert page.get_by_role("button", name="None", exact=True).count() == 0
