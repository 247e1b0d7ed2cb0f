"""The Prefect UI as a person has it: headless Chromium, logged in, fields found by what is written above them."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FIELD = "self::textarea or self::input or @role='combobox' or contains(@class, 'cm-content')"


@contextmanager
def logged_in(house: Any) -> Iterator["Page"]:
    """A page that has given the password."""
    playwright = pytest.importorskip("playwright.sync_api", reason="comes with the dev extra")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as playing:
        # Chromium's sandbox needs namespaces that containers seldom have; the only pages seen here are our own.
        chromium = playing.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1000, "height": 1700})
        page.set_default_timeout(60_000)
        page.goto(address(house, "dashboard"))
        page.locator("input[type=password]").fill(house.environment["PREFECT_API_AUTH_STRING"])
        page.locator("button[type=submit]").click()
        page.get_by_text("Flow Runs").first.wait_for()
        yield page
        chromium.close()


def address(house: Any, path: str) -> str:
    return f"{house.environment['PREFECT_API_URL'].removesuffix('/api')}/{path}"


def open_form(house: Any, page: "Page", deployment: str) -> None:
    """The form behind Run, once its fields are drawn."""
    found = house.api("GET", f"/deployments/name/{deployment}")
    page.goto(address(house, f"deployments/deployment/{found['id']}/run"))
    label(page, "Recipe").wait_for()


def label(page: "Page", title: str) -> "Locator":
    """Labels carry no usable `for`: only their words are sure."""
    return page.locator("label", has_text=re.compile(rf"^\s*{re.escape(title)}( \(Optional\))?\s*$"))


def field(page: "Page", title: str) -> "Locator":
    """What stands next below a label: a line of text, a number, a choice, a switch, or a small editor."""
    return label(page, title).locator(f"xpath=following::*[{FIELD}][1]")


def add_item(page: "Page", title: str, value: str) -> None:
    """Put one more text into a list, once its line is drawn."""
    whole = label(page, title).locator("xpath=ancestor::*[.//button[normalize-space()='Add item']][1]")
    lines = whole.locator(f"xpath=.//*[{FIELD}]")
    there = lines.count()
    whole.get_by_role("button", name="Add item").click()
    lines.nth(there).fill(value)


def submit(page: "Page") -> None:
    page.get_by_role("button", name="Submit").click()
